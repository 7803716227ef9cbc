//! `plimsoll doctor`: what can be seen on this host, what is missing, and the remedy.

use std::io::Write as _;
use std::path::Path;

use anstyle::{AnsiColor, Style};
use plimsoll_core::model::{Bytes, Container, escape};
use plimsoll_core::report::v1;
use plimsoll_host::inspect::Sources;
use plimsoll_host::runtimes::{Runtime, RuntimeError, find};
use plimsoll_host::{fs, privilege};
use serde::Serialize;

use super::look::{sources, tool};
use crate::args::{DoctorArgs, Format};
use crate::config;
use crate::error::CliError;
use crate::output::Output;
use crate::talk::Talk;

/// Exit code when something is missing.
const MISSING: u8 = 2;

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// It is there.
    Ok,
    /// It is not there, and need not be.
    Note,
    /// It is not there, and answers are incomplete without it.
    Missing,
}

/// One thing that was looked for.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    status: Status,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Check {
    fn new(name: impl Into<String>, status: Status, found: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            status,
            found: found.into(),
            remedy: None,
        }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    tool: v1::Tool,
    host: v1::Host,
    checks: Vec<Check>,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// [`CliError`] when the output cannot be written, or the arguments make no sense.
pub(crate) fn run(args: DoctorArgs, config: Option<&Path>, _: &Talk) -> Result<u8, CliError> {
    let file = config::load(config)?;
    let format = args
        .format
        .or(file.comparison.format)
        .unwrap_or(Format::Table);
    let sources = sources(args.places.or(file.places))?;
    let mut checks = kernel();
    checks.extend(privileges());
    checks.extend(runtimes(&sources));
    checks.extend(containers(&sources));
    let missing = checks.iter().any(|check| check.status == Status::Missing);

    let mut out = Output::open(None)?;
    let written = match format {
        Format::Table => table(&checks, &mut out),
        Format::Json => json(checks, &mut out),
        Format::Ndjson | Format::Docker => {
            return Err(CliError::new(
                "doctor speaks in two forms: --format table or json",
            ));
        }
    };
    written
        .and_then(|()| out.finish())
        .map_err(|error| CliError::writing(&error))?;
    Ok(if missing { MISSING } else { 0 })
}

fn kernel() -> Vec<Check> {
    let name = rustix::system::uname();
    let release = escape(name.release().to_bytes()).into_owned();
    let mut checks = vec![Check::new("kernel", Status::Ok, release)];
    let known = fs::read_small("/proc/filesystems").unwrap_or_default();
    for (system, check) in [("overlay", "overlayfs"), ("btrfs", "Btrfs")] {
        let registered = known.split_ascii_whitespace().any(|word| word == system);
        checks.push(if registered {
            Check::new(check, Status::Ok, "the kernel has it")
        } else {
            Check::new(check, Status::Note, "the kernel has it not loaded").remedy(format!(
                "modprobe {system}, if containers here are to use it"
            ))
        });
    }
    checks
}

fn privileges() -> Vec<Check> {
    let missing = privilege::missing();
    if missing.is_empty() {
        let found = "all: overlay marks and Btrfs trees can be read";
        return vec![Check::new("privileges", Status::Ok, found)];
    }
    missing
        .into_iter()
        .map(|gap| {
            let found = format!("{} is missing: {}", gap.what, escape(gap.why.as_bytes()));
            Check::new("privileges", Status::Missing, found)
                .remedy("sudo plimsoll, or give the process these capabilities")
        })
        .collect()
}

/// Looks for each runtime: a row for each place where its containers are kept.
fn runtimes(sources: &Sources) -> Vec<Check> {
    find::runtimes(sources)
        .into_iter()
        .flat_map(|looked| {
            let kinds: Vec<&str> = looked.kinds.iter().map(|kind| kind.as_str()).collect();
            let name = kinds.join(", ");
            match looked.found {
                Ok(runtime) => runtime
                    .places()
                    .into_iter()
                    .map(|place| Check::new(name.clone(), Status::Ok, place))
                    .collect(),
                Err(error) => {
                    let status = match &error {
                        RuntimeError::Absent(_) => Status::Note,
                        _ => Status::Missing,
                    };
                    vec![
                        Check::new(name, status, error.to_string())
                            .remedy("overlay:, pid:, btrfs: and tree: targets need none"),
                    ]
                }
            }
        })
        .collect()
}

/// Looks for every container and for its layers, without comparing anything.
fn containers(sources: &Sources) -> Vec<Check> {
    const NAME: &str = "containers";
    let (found, gaps) = match find::containers(sources, &[]) {
        Ok(answer) => answer,
        // Told already, by the runtimes.
        Err(_) => return Vec::new(),
    };
    let mut checks = vec![Check::new(
        NAME,
        Status::Ok,
        format!("{} found", found.len()),
    )];
    for gap in gaps {
        let text = format!("{}: {}", gap.what, escape(gap.why.as_bytes()));
        checks.push(Check::new(NAME, Status::Missing, text));
    }
    checks.extend(
        found
            .iter()
            .filter_map(|(runtime, container)| layers(&**runtime, container)),
    );
    checks
}

/// Returns what keeps the layers of a container from being found.
fn layers(runtime: &dyn Runtime, container: &Container) -> Option<Check> {
    let name = escape(container.display_name().as_bytes()).into_owned();
    match runtime.locate(container, false) {
        Ok(located) if located.gaps.is_empty() => None,
        Ok(located) => {
            let told: Vec<String> = located
                .gaps
                .iter()
                .map(|gap| format!("{}: {}", gap.what, gap.why))
                .collect();
            let found = format!("{name}: {}", escape(told.join("; ").as_bytes()));
            Some(Check::new("layers", Status::Missing, found))
        }
        Err(error) => {
            let found = format!("{name}: {}", escape(error.to_string().as_bytes()));
            Some(Check::new("layers", Status::Missing, found))
        }
    }
}

fn json(checks: Vec<Check>, out: &mut Output) -> std::io::Result<()> {
    let document = Document {
        schema_version: v1::SCHEMA_VERSION,
        tool: tool(),
        host: v1::Host {
            name: Bytes::from(rustix::system::uname().nodename().to_bytes()),
        },
        checks,
    };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)
}

fn table(checks: &[Check], out: &mut Output) -> std::io::Result<()> {
    let width = checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    for check in checks {
        let (style, word): (Style, _) = match check.status {
            Status::Ok => (AnsiColor::Green.on_default(), "ok"),
            Status::Note => (AnsiColor::Yellow.on_default(), "note"),
            Status::Missing => (AnsiColor::Red.on_default().bold(), "missing"),
        };
        writeln!(
            out,
            "{style}{word:7}{style:#}  {:width$}  {}",
            check.name, check.found
        )?;
        if let Some(remedy) = &check.remedy {
            writeln!(out, "{:7}  {:width$}  -> {remedy}", "", "")?;
        }
    }
    Ok(())
}
