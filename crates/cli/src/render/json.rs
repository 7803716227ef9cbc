//! One JSON document: version 1 of the report.

use std::io::{self, BufWriter, Write};

use plimsoll_core::Summary;
use plimsoll_core::report::v1;

use super::Run;

/// Bytes that are gathered before they are handed on.
const GATHERED: usize = 16 << 10;

/// Collects containers for one document.
#[derive(Debug)]
pub(crate) struct Json {
    run: Run,
    containers: Vec<v1::Container>,
}

impl Json {
    pub(super) fn new(run: Run) -> Self {
        Self {
            run,
            containers: Vec::new(),
        }
    }

    pub(super) fn container(&mut self, container: v1::Container) {
        self.containers.push(container);
    }

    pub(super) fn finish(
        self,
        gaps: Vec<v1::Gap>,
        summary: Summary,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let report = v1::Report {
            schema_version: v1::SCHEMA_VERSION,
            tool: self.run.tool,
            host: self.run.host,
            time: self.run.time,
            paths: self.run.paths,
            containers: self.containers,
            gaps,
            summary,
        };
        // A document is written in bits of a few bytes: gathered here, where none of them is a call.
        let mut gathered = BufWriter::with_capacity(GATHERED, out);
        serde_json::to_writer_pretty(&mut gathered, &report)?;
        gathered.write_all(b"\n")?;
        gathered.flush()
    }
}
