//! A document for the tests of its forms, with a name that would harm a page or a terminal.

use plimsoll_core::model::{Algorithm, Bytes, EngineKind, RuntimeKind, State, Timestamp};

use super::figures::{Figures, Sample};
use super::json::{Compared, Document, Measured, SCHEMA_VERSION, Storing};
use super::machine::{Cpu, Machine};
use crate::commands::look::tool;

pub(super) const NAME: &str = "<script src='x'>&\"\u{1b}[2J\u{202e}";

fn figures(wall: u64, content: u64) -> Figures {
    let sample = |wall_micros| Sample {
        wall_micros,
        engine_micros: wall_micros / 3,
        user_micros: wall_micros,
        system_micros: wall_micros / 2,
        peak_memory_bytes: 14_700_000,
        content_bytes: content,
        read_bytes: Some(content + 9000),
        storage_bytes: Some(content / 2),
        entries_read: 57,
        changes: 3,
        unconfirmed: 0,
        gaps: 0,
    };
    Figures::of([wall, wall * 2, wall * 12 / 10].map(sample).to_vec()).unwrap()
}

fn measured(name: &str, engine: EngineKind, wall: u64, content: u64) -> Measured {
    Measured {
        name: name.to_owned(),
        engine,
        algorithm: (engine == EngineKind::Digest).then_some(Algorithm::Sha256),
        command: format!("plimsoll check '{}'", "a'b"),
        arguments: vec![Bytes::from(b"check".as_slice())],
        stored_bytes: if content > 10_000 { 1_150_000 } else { 0 },
        storing: (content > 10_000).then(|| Storing {
            command: "plimsoll baseline".into(),
            wall_micros: 700_000,
            cpu_micros: 900_000,
            peak_memory_bytes: 20_000_000,
        }),
        changes: 3,
        unconfirmed: 0,
        gaps: 0,
        system_calls: (engine == EngineKind::Overlay).then_some(612),
        warm: figures(wall, content),
        cold: Some(figures(wall * 9, content)),
    }
}

pub(super) fn document() -> Document {
    Document {
        schema_version: SCHEMA_VERSION,
        tool: tool(),
        host: Machine {
            name: Bytes::from(b"host".as_slice()),
            kernel: "6.1.0".into(),
            cpu: Cpu {
                model: "Some <CPU>".into(),
                processors: 2,
                sha_instructions: Some(true),
            },
            memory_bytes: 8 << 30,
        },
        time: Timestamp {
            seconds: 1_800_000_000,
            nanoseconds: 0,
        },
        runs: 3,
        drop_caches: true,
        containers: vec![Compared {
            target: Bytes::from(NAME.as_bytes()),
            id: "c0ffee".repeat(10),
            name: Some(NAME.into()),
            runtime: RuntimeKind::Docker,
            state: State::Running,
            engine: EngineKind::Overlay,
            methods: vec![
                measured("overlay exact", EngineKind::Overlay, 3_100, 1_600),
                measured("overlay pure", EngineKind::Overlay, 2_900, 0),
                measured("digest md5", EngineKind::Digest, 587_000, 213_909_504),
                measured("digest sha256", EngineKind::Digest, 387_000, 213_909_504),
            ],
            agree: true,
            disagreements: Vec::new(),
            notes: vec!["a <note>".into()],
        }],
        failed: Vec::new(),
        gaps: Vec::new(),
    }
}
