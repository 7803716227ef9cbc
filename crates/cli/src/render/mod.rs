//! Reports for people and for programs.
//!
//! To add a form: a file here, a variant of [`Renderer`] and of `args::Format`.

mod beside;
pub(crate) mod columns;
mod docker;
mod json;
pub(crate) mod layers;
mod ndjson;
pub(crate) mod table;

use std::io::{self, Write};

use plimsoll_core::Summary;
use plimsoll_core::model::{RootPath, Timestamp};
use plimsoll_core::report::v1;

use crate::args::Format;
use crate::talk::Talk;

/// Which question is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// The verdict on each container, and what is held against it.
    Check,
    /// Every change of one container.
    Diff,
}

/// What is the same for all containers of a run.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) tool: v1::Tool,
    pub(crate) host: v1::Host,
    pub(crate) time: Timestamp,
    /// Only these paths are looked at, when there are any.
    pub(crate) paths: Vec<RootPath>,
}

/// A form of the report, taking one container after the other.
#[derive(Debug)]
pub(crate) enum Renderer {
    Table(table::Table),
    Json(json::Json),
    Ndjson(ndjson::Ndjson),
    Docker(docker::Docker),
}

impl Renderer {
    /// Returns a renderer; `width` is that of the terminal, in columns, where there is one.
    pub(crate) fn new(
        format: Format,
        view: View,
        run: Run,
        width: Option<usize>,
        verbose: bool,
    ) -> Self {
        match format {
            Format::Table => Self::Table(table::Table::new(view, width, verbose)),
            Format::Json => Self::Json(json::Json::new(run)),
            Format::Ndjson => Self::Ndjson(ndjson::Ndjson::new(run)),
            Format::Docker => Self::Docker(docker::Docker::default()),
        }
    }

    /// Takes one container.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn container(
        &mut self,
        container: v1::Container,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        match self {
            Self::Table(table) => {
                table.container(container);
                Ok(())
            }
            Self::Json(json) => {
                json.container(container);
                Ok(())
            }
            Self::Ndjson(ndjson) => ndjson.container(container, out),
            Self::Docker(docker) => docker.container(container, out),
        }
    }

    /// Takes what belongs to no single container, and writes what is left to write.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn finish(
        self,
        gaps: Vec<v1::Gap>,
        summary: Summary,
        out: &mut dyn Write,
        talk: Talk,
    ) -> io::Result<()> {
        match self {
            Self::Table(table) => table.finish(summary, out, talk),
            Self::Json(json) => json.finish(gaps, summary, out),
            Self::Ndjson(ndjson) => ndjson.finish(gaps, summary, out),
            Self::Docker(docker) => {
                docker.finish(talk);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
