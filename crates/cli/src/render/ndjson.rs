//! One JSON object a line, for log collectors: a line a change, then a line a container, at last a
//! line for the run. Each line stands for itself, and is written as soon as it is known.

use std::io::{self, Write};

use plimsoll_core::model::{
    Bytes, ContainerId, EngineKind, ImageId, RootPath, RuntimeKind, State, Timestamp,
};
use plimsoll_core::report::v1;
use plimsoll_core::{Summary, Verdict};
use serde::Serialize;

use super::Run;

/// Writes line after line.
#[derive(Debug)]
pub(crate) struct Ndjson {
    run: Run,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema_version: u32,
    time: Timestamp,
    host: &'a v1::Host,
    #[serde(flatten)]
    rest: T,
}

#[derive(Serialize, Clone, Copy)]
#[serde(rename_all = "camelCase")]
struct Who<'a> {
    id: &'a ContainerId,
    name: Option<&'a str>,
    runtime: RuntimeKind,
    image: Option<&'a Bytes>,
    image_id: Option<&'a ImageId>,
}

#[derive(Serialize)]
struct ChangeLine<'a> {
    container: Who<'a>,
    #[serde(flatten)]
    change: &'a v1::Change<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerLine<'a> {
    container: Who<'a>,
    state: State,
    engine: Option<EngineKind>,
    baseline: v1::Baseline,
    verdict: Verdict,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    paths: &'a [RootPath],
    change_count: usize,
    identical_copies: u64,
    gaps: &'a [v1::Gap],
    cost: v1::Cost,
}

#[derive(Serialize)]
struct RunLine<'a> {
    tool: &'a v1::Tool,
    gaps: &'a [v1::Gap],
    summary: Summary,
}

impl Ndjson {
    pub(super) fn new(run: Run) -> Self {
        Self { run }
    }

    pub(super) fn container(
        &mut self,
        container: v1::Container,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let who = Who {
            id: &container.id,
            name: container.name.as_deref(),
            runtime: container.runtime,
            image: container.image.reference.as_ref(),
            image_id: container.image.id.as_ref(),
        };
        for change in container.changes.iter() {
            let line = ChangeLine {
                container: who,
                change: &change,
            };
            self.line("change", line, out)?;
        }
        let line = ContainerLine {
            container: who,
            state: container.state,
            engine: container.engine,
            baseline: container.baseline,
            verdict: container.verdict,
            paths: &self.run.paths,
            change_count: container.changes.len(),
            identical_copies: container.identical_copies,
            gaps: &container.gaps,
            cost: container.cost,
        };
        self.line("container", line, out)?;
        out.flush()
    }

    pub(super) fn finish(
        &self,
        gaps: Vec<v1::Gap>,
        summary: Summary,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let line = RunLine {
            tool: &self.run.tool,
            gaps: &gaps,
            summary,
        };
        self.line("run", line, out)
    }

    fn line<T: Serialize>(
        &self,
        kind: &'static str,
        rest: T,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let line = Line {
            kind,
            schema_version: v1::SCHEMA_VERSION,
            time: self.run.time,
            host: &self.run.host,
            rest,
        };
        serde_json::to_writer(&mut *out, &line)?;
        writeln!(out)
    }
}
