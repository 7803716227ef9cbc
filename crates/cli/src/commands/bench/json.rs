//! The document: everything that was measured, which the table and the page show parts of.

use std::borrow::Cow;
use std::io::{self, Write};

use plimsoll_core::model::{Algorithm, Bytes, EngineKind, RuntimeKind, State, Timestamp, escape};
use plimsoll_core::report::v1;
use serde::Serialize;

use super::figures::{Figures, grouped};
use super::machine::Machine;

/// The number of this form of the document.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// One run of `bench`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    pub(super) schema_version: u32,
    pub(super) tool: v1::Tool,
    pub(super) host: Machine,
    /// When it began.
    pub(super) time: Timestamp,
    /// Turns of each method.
    pub(super) runs: u32,
    /// Whether there are turns with cold caches.
    pub(super) drop_caches: bool,
    pub(super) containers: Vec<Compared>,
    /// Containers that could not be compared.
    pub(super) failed: Vec<Failed>,
    /// What could not be seen and belongs to no container.
    pub(super) gaps: Vec<String>,
}

/// A container that could not be compared.
#[derive(Debug, Serialize)]
pub(super) struct Failed {
    pub(super) target: Bytes,
    pub(super) why: String,
}

/// The methods on one container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Compared {
    /// What stands for it on the command line.
    pub(super) target: Bytes,
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) runtime: RuntimeKind,
    pub(super) state: State,
    /// The engine that its storage driver has.
    pub(super) engine: EngineKind,
    pub(super) methods: Vec<Measured>,
    /// Whether every method found the same changes.
    pub(super) agree: bool,
    /// Where they did not.
    pub(super) disagreements: Vec<String>,
    /// What else bears on the figures.
    pub(super) notes: Vec<String>,
}

/// One method.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) engine: EngineKind,
    /// The hash function of the digest engine.
    pub(super) algorithm: Option<Algorithm>,
    /// What each of its turns is, as a line for a shell.
    pub(super) command: String,
    /// The same, argument by argument.
    pub(super) arguments: Vec<Bytes>,
    /// Bytes that have to be stored for each image beforehand.
    pub(super) stored_bytes: u64,
    /// What storing them took, once.
    pub(super) storing: Option<Storing>,
    /// Changes found in the last turn.
    pub(super) changes: usize,
    /// Of these, what metadata alone cannot decide and nobody read.
    pub(super) unconfirmed: usize,
    /// What could not be seen in the last turn.
    pub(super) gaps: usize,
    /// System calls of one turn, counted in a turn of its own; null where they cannot be.
    pub(super) system_calls: Option<u64>,
    pub(super) warm: Figures,
    pub(super) cold: Option<Figures>,
}

/// What it took to store the digests of an image: one run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Storing {
    pub(super) command: String,
    pub(super) wall_micros: u64,
    pub(super) cpu_micros: u64,
    pub(super) peak_memory_bytes: u64,
}

impl Document {
    /// Whether everything was compared and every method found the same.
    pub(super) fn is_whole(&self) -> bool {
        self.failed.is_empty() && self.containers.iter().all(|container| container.agree)
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// Those of writing.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }
}

impl Compared {
    /// Returns what it is called, escaped: a runtime's name for it, else what stands for it on the
    /// command line.
    pub(super) fn title(&self) -> Cow<'_, str> {
        match (self.runtime, &self.name) {
            (RuntimeKind::Overlay | RuntimeKind::Tree, _) | (_, None) => {
                escape(self.target.as_bytes())
            }
            (_, Some(name)) => escape(name.as_bytes()),
        }
    }
}

impl Measured {
    /// Whether it hashes.
    pub(super) fn hashes(&self) -> bool {
        self.engine == EngineKind::Digest
    }

    /// Returns what it found, for people.
    pub(super) fn found(&self) -> String {
        let number = |count: usize| grouped(count as u64);
        let mut text = number(self.changes);
        if self.unconfirmed > 0 {
            text += &format!(", {} unread", number(self.unconfirmed));
        }
        if self.gaps > 0 {
            text += &format!(", {} ?", number(self.gaps));
        }
        text
    }
}
