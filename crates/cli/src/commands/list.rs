//! `plimsoll list`: which containers there are, and where their layers lie. Nothing is compared.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anstyle::Style;
use plimsoll_core::model::{
    Bytes, Container, ContainerId, EngineKind, Gap, Image, Pod, RuntimeKind, State, escape,
};
use plimsoll_core::report::v1;
use plimsoll_host::layers::LayerStack;
use plimsoll_host::runtimes::find::{self, Found};
use serde::Serialize;

use super::look::{sources, tool};
use crate::args::{Columns as Chosen, Format, ListArgs};
use crate::error::CliError;
use crate::output::Output;
use crate::render::columns::Columns;
use crate::render::table::{image, write_gap};
use crate::{config, targets};

/// Exit code when something could not be found.
const INCOMPLETE: u8 = 2;

/// One container of the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    id: ContainerId,
    name: Option<String>,
    runtime: RuntimeKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<Pod>,
    state: State,
    pid: Option<u32>,
    image: Image,
    /// What would compare it; null where its layers were not found.
    engine: Option<EngineKind>,
    /// Its own layer: the upper directory, the subvolume, the tree.
    layer: Option<Bytes>,
    /// What it would be compared with, top first.
    image_layers: Vec<Bytes>,
    gaps: Vec<v1::Gap>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    tool: v1::Tool,
    host: v1::Host,
    containers: Vec<Entry>,
    gaps: Vec<v1::Gap>,
}

/// One line of a list in lines.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'l, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema_version: u32,
    host: &'l v1::Host,
    #[serde(flatten)]
    rest: T,
}

#[derive(Serialize)]
struct RunLine<'l> {
    tool: &'l v1::Tool,
    gaps: &'l [v1::Gap],
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// [`CliError`] when nothing can be looked at, or the output cannot be written.
pub(crate) fn run(args: &ListArgs, config: Option<&Path>) -> Result<u8, CliError> {
    let file = config::load(config)?;
    let format = args
        .format
        .or(file.comparison.format)
        .unwrap_or(Format::Table);
    if format == Format::Docker {
        return Err(CliError::new(
            "list speaks in three forms: --format table, json or ndjson",
        ));
    }
    let sources = sources(args.places.clone().or(file.places))?;
    let wanted = args.targets.iter().map(|name| targets::parse(name));
    let wanted = wanted.collect::<Result<Vec<_>, _>>()?;
    let (found, gaps) = find::containers(&sources, &wanted)?;
    let containers: Vec<Entry> = found.iter().map(entry).collect();
    let document = Document {
        schema_version: v1::SCHEMA_VERSION,
        tool: tool(),
        host: v1::Host {
            name: Bytes::from(rustix::system::uname().nodename().to_bytes()),
        },
        containers,
        gaps: gaps
            .into_iter()
            .map(|gap| v1::Gap::new(gap, false))
            .collect(),
    };
    let whole = document.gaps.is_empty() && document.containers.iter().all(|c| c.gaps.is_empty());
    let mut out = Output::open(None)?;
    let width = out.width();
    let written = match format {
        Format::Json => json(&document, &mut out),
        Format::Ndjson => lines(&document, &mut out),
        Format::Table | Format::Docker => table(
            &document,
            args.output == Some(Chosen::Wide),
            width,
            &mut out,
        ),
    };
    written
        .and_then(|()| out.finish())
        .map_err(|error| CliError::writing(&error))?;
    Ok(if whole { 0 } else { INCOMPLETE })
}

/// Finds the layers of one container.
fn entry((runtime, container): &Found) -> Entry {
    let Container {
        id,
        name,
        runtime: kind,
        namespace,
        user,
        pod,
        state,
        image,
        pid,
        ..
    } = container.clone();
    let bytes = |path: &Path| Bytes::from(path.as_os_str().as_bytes());
    let (engine, layer, image_layers, gaps) = match runtime.locate(container, false) {
        Ok(located) => {
            let (engine, own, image) = match &located.stack {
                LayerStack::Overlay(stack) => (
                    EngineKind::Overlay,
                    bytes(&stack.upper.path),
                    stack.image.iter().map(|layer| bytes(&layer.path)).collect(),
                ),
                LayerStack::Btrfs(stack) => (
                    EngineKind::Btrfs,
                    bytes(&stack.container.path),
                    vec![bytes(&stack.image.path)],
                ),
                LayerStack::Plain(stack) => (
                    EngineKind::Digest,
                    bytes(&stack.container.path),
                    vec![bytes(&stack.image.path)],
                ),
            };
            (Some(engine), Some(own), image, located.gaps)
        }
        Err(error) => {
            let gap = Gap::new("layers", error.to_string());
            (None, None, Vec::new(), vec![gap])
        }
    };
    Entry {
        id,
        name,
        runtime: kind,
        namespace,
        user,
        pod,
        state,
        pid,
        image,
        engine,
        layer,
        image_layers,
        gaps: gaps
            .into_iter()
            .map(|gap| v1::Gap::new(gap, false))
            .collect(),
    }
}

impl Entry {
    fn name(&self) -> String {
        escape(self.name.as_deref().unwrap_or(self.id.short()).as_bytes()).into_owned()
    }

    /// Returns where a cluster or containerd has it: the namespace, and the pod.
    fn place(&self) -> [String; 2] {
        let or_none = |text: Option<&str>| match text {
            Some(text) => escape(text.as_bytes()).into_owned(),
            None => "-".to_owned(),
        };
        let pod = self.pod.as_ref();
        let namespace = pod.map(|pod| pod.namespace.as_str());
        [
            or_none(namespace.or(self.namespace.as_deref())),
            or_none(pod.map(|pod| pod.name.as_str())),
        ]
    }

    fn cells(&self, wide: bool) -> Vec<String> {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let mut cells = vec![
            self.name(),
            escape(self.id.short().as_bytes()).into_owned(),
            self.runtime.as_str().to_owned(),
            self.state.as_str().to_owned(),
            image(&self.image),
            or_none(self.engine.map(|engine| engine.as_str().to_owned())),
        ];
        if wide {
            cells.extend(self.place());
            cells.push(or_none(self.user.map(|user| user.to_string())));
            cells.push(or_none(self.pid.map(|pid| pid.to_string())));
            cells.push(or_none(self.layer.as_ref().map(ToString::to_string)));
        }
        cells
    }
}

fn table(
    document: &Document,
    wide: bool,
    width: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    const HEAD: [&str; 11] = [
        "NAME",
        "ID",
        "RUNTIME",
        "STATE",
        "IMAGE",
        "ENGINE",
        "NAMESPACE",
        "POD",
        "USER",
        "PID",
        "LAYER",
    ];
    const SHORT: usize = 6;
    const NAME: usize = 0;
    const IMAGE: usize = 4;
    let containers = &document.containers;
    if containers.is_empty() {
        writeln!(out, "no containers")?;
    } else {
        let rows: Vec<Vec<String>> = containers.iter().map(|one| one.cells(wide)).collect();
        let columns = Columns {
            head: HEAD
                .get(..if wide { HEAD.len() } else { SHORT })
                .unwrap_or_default(),
            rows: &rows,
            // A path that is cut off is of no use: then the lines are longer than the terminal.
            shrinking: if wide {
                &[]
            } else {
                &[(IMAGE, 12), (NAME, 16)]
            },
            last_is_number: false,
        };
        columns.write(width, out, |_, _| Style::new())?;
    }
    for one in containers.iter().filter(|one| !one.gaps.is_empty()) {
        const BOLD: Style = Style::new().bold();
        writeln!(out, "\n{BOLD}{}{BOLD:#}", one.name())?;
        for gap in &one.gaps {
            write_gap(gap, "  ", out)?;
        }
    }
    if !document.gaps.is_empty() {
        writeln!(out)?;
    }
    for gap in &document.gaps {
        write_gap(gap, "", out)?;
    }
    Ok(())
}

fn json(document: &Document, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    writeln!(out)
}

fn lines(document: &Document, out: &mut dyn Write) -> io::Result<()> {
    for container in &document.containers {
        line("container", document, container, out)?;
    }
    let run = RunLine {
        tool: &document.tool,
        gaps: &document.gaps,
    };
    line("run", document, run, out)
}

fn line<T: Serialize>(
    kind: &'static str,
    document: &Document,
    rest: T,
    out: &mut dyn Write,
) -> io::Result<()> {
    let line = Line {
        kind,
        schema_version: document.schema_version,
        host: &document.host,
        rest,
    };
    serde_json::to_writer(&mut *out, &line)?;
    writeln!(out)
}
