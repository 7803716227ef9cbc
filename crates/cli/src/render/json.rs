//! One JSON document: version 1 of the report.

use std::io::{self, Write};

use plimsoll_core::Summary;
use plimsoll_core::report::v1;

use super::Run;

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
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)
    }
}
