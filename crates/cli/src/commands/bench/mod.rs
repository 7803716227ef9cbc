//! `plimsoll bench`: what the metadata engines save, measured on containers of this host.
//!
//! Each turn of each method is a process of its own: the program, run by itself, with a command line
//! that anybody can repeat. So time and memory are what who runs it pays, and no method finds
//! anything of another's but the caches. The methods take turns, so that whatever else the machine
//! does falls on all of them; a first turn warms the caches and does not count.

mod agreement;
mod figures;
mod html;
mod json;
mod machine;
mod methods;
mod plot;
mod table;
#[cfg(test)]
mod testdata;
mod turn;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use plimsoll_core::model::{Algorithm, Bytes, EngineKind, RuntimeKind, escape};
use plimsoll_host::runtimes::find;

use self::json::{Compared, Document, Failed, SCHEMA_VERSION};
use self::machine::{Caches, Machine};
use self::methods::{Counts, Method, Setting, compared};
use self::turn::{Looked, Runner};
use super::interrupts::Interrupts;
use super::look::{now, sources, tool};
use crate::args::{BenchArgs, Format};
use crate::error::{COULD_NOT_RUN, CliError};
use crate::output::Output;
use crate::talk::Talk;
use crate::{config, targets};

/// Runs the command and returns the exit code.
///
/// # Errors
/// [`CliError`] when nothing can be compared, or the output not be written.
pub(crate) fn run(args: BenchArgs, config: Option<&Path>, talk: &Talk) -> Result<u8, CliError> {
    let file = config::load(config)?;
    let format = args
        .format
        .or(file.comparison.format)
        .unwrap_or(Format::Table);
    if !matches!(format, Format::Table | Format::Json) {
        return Err(
            CliError::new("bench speaks in two forms: --format table or json")
                .hint("--html FILE writes a page with plots beside either"),
        );
    }
    let setting = Setting {
        places: args.places.clone().or(file.places),
        jobs: args.jobs.or(file.comparison.jobs),
    };
    let time = now();
    // What cannot be had is told before the long work, not after it.
    let interrupts = Interrupts::watch()?;
    let mut page = args
        .html
        .as_deref()
        .map(|file| Output::open(Some(file)))
        .transpose()?;
    let mut caches = args.drop_caches.then(Caches::open).transpose()?;
    let (subjects, gaps) = subjects(&args.targets, &setting)?;
    // Gone with everything in it, also when a turn that writes is killed.
    let staging = match &args.keep {
        Some(kept) => {
            methods::make(kept)?;
            tempfile::tempdir_in(kept)
        }
        None => tempfile::tempdir(),
    }
    .map_err(|error| CliError::new(format!("no directory for the baselines: {error}")))?;
    let kept = args.keep.as_deref().unwrap_or(staging.path());

    let mut bench = Bench {
        setting,
        runner: Runner::new(interrupts),
        runs: args.runs,
        talk: *talk,
        staging: staging.path(),
        caches: caches.as_mut(),
    };
    let mut document = Document {
        schema_version: SCHEMA_VERSION,
        tool: tool(),
        host: Machine::this(),
        time,
        runs: args.runs,
        drop_caches: args.drop_caches,
        containers: Vec::new(),
        failed: Vec::new(),
        gaps,
    };
    let alone = subjects.len() == 1;
    let mut all = Vec::new();
    for (index, subject) in subjects.iter().enumerate() {
        let turned = methods::directory(kept, alone, index + 1, &subject.id)
            .and_then(|directory| bench.container(subject, &directory));
        match turned {
            Ok(turned) => all.push(turned),
            Err(error) => {
                bench.runner.pause()?;
                if alone {
                    return Err(error);
                }
                talk.warn(&format!("{}: {}", subject.name, error.message));
                document.failed.push(Failed {
                    target: Bytes::from(subject.argument.as_bytes()),
                    why: error.message,
                });
            }
        }
    }

    // Whole reports are read when every turn is over: until then this process stays small.
    for turned in all {
        let compared = turned.compared()?;
        if !compared.agree {
            talk.warn(&format!(
                "{}: the methods disagree about what changed",
                compared.title()
            ));
        }
        document.containers.push(compared);
    }
    if let Some(page) = &mut page {
        html::write(&document, page).map_err(|error| CliError::writing(&error))?;
    }
    let mut out = Output::open(None)?;
    let written = match format {
        Format::Json => document.write(&mut out),
        _ => table::write(&document, &mut out),
    };
    written
        .and_then(|()| out.finish())
        .and_then(|()| page.map_or(Ok(()), Output::finish))
        .map_err(|error| CliError::writing(&error))?;
    Ok(if document.is_whole() {
        0
    } else {
        COULD_NOT_RUN
    })
}

/// A container to compare the methods on.
struct Subject {
    /// What stands for it on the command line.
    argument: OsString,
    id: String,
    /// Escaped.
    name: String,
}

/// Returns the containers, and what could not be seen and belongs to none.
fn subjects(
    arguments: &[OsString],
    setting: &Setting,
) -> Result<(Vec<Subject>, Vec<String>), CliError> {
    let wanted = arguments
        .iter()
        .map(|target| targets::parse(target))
        .collect::<Result<Vec<_>, _>>()?;
    let sources = sources(setting.places.clone())?;
    let (found, gaps) = find::containers(&sources, &wanted)?;
    let mut given = arguments.iter();
    let subjects: Vec<Subject> = found
        .into_iter()
        .map(|(_, container)| Subject {
            // The id, for a name can be another container's by the next turn.
            argument: match (given.next(), container.runtime) {
                (_, RuntimeKind::Docker) => format!("docker:{}", container.id).into(),
                (Some(argument), _) => argument.clone(),
                (None, runtime) if !runtime.has_records() && container.pid.is_some() => {
                    format!("pid:{}", container.pid.unwrap_or_default()).into()
                }
                (None, runtime) => format!("{}:{}", runtime.as_str(), container.id).into(),
            },
            name: escape(container.display_name().as_bytes()).into_owned(),
            id: container.id.as_str().to_owned(),
        })
        .collect();
    if subjects.is_empty() {
        return Err(CliError::new("there is no container here to compare")
            .hint("plimsoll bench overlay:MOUNTPOINT takes an overlay mount"));
    }
    let gaps = gaps
        .iter()
        .map(|gap| format!("{}: {}", gap.what, escape(gap.why.as_bytes())))
        .collect();
    Ok((subjects, gaps))
}

/// A container on which every method has taken its turns.
struct Turned {
    target: Bytes,
    looked: Looked,
    engine: EngineKind,
    methods: Vec<Method>,
    notes: Vec<String>,
}

impl Turned {
    fn compared(mut self) -> Result<Compared, CliError> {
        let disagreements = disagreements(&mut self.methods)?;
        Ok(Compared {
            target: self.target,
            id: self.looked.id,
            name: self.looked.name,
            runtime: self.looked.runtime,
            state: self.looked.state,
            engine: self.engine,
            methods: self
                .methods
                .into_iter()
                .filter_map(Method::measured)
                .collect(),
            agree: disagreements.is_empty(),
            disagreements,
            notes: self.notes,
        })
    }
}

struct Bench<'a> {
    setting: Setting,
    runner: Runner,
    runs: u32,
    talk: Talk,
    /// Where stored digests are written before they are put in their place.
    staging: &'a Path,
    caches: Option<&'a mut Caches>,
}

impl Bench<'_> {
    /// Compares the methods on one container.
    fn container(&mut self, subject: &Subject, directory: &Path) -> Result<Turned, CliError> {
        let target = &subject.argument;
        let first = self.runner.check(&self.setting.check(target, &[]))?;
        let engine = compared(&first.looked)?;
        let mut notes: Vec<String> = first
            .gaps
            .iter()
            .map(|gap| format!("not seen: {gap}"))
            .collect();
        let mut methods = self.setting.metadata(target, engine);
        if methods.is_empty() {
            notes.push("it has no metadata to compare by: only hashing works on it".to_owned());
        }
        for algorithm in [Algorithm::Md5, Algorithm::Sha256, Algorithm::Blake3] {
            self.say(
                subject,
                &format!("storing the {} digests of its image", algorithm.as_str()),
            );
            let method =
                self.setting
                    .digest(target, algorithm, self.staging, directory, &self.runner)?;
            methods.push(method);
        }
        self.turns(subject, &mut methods)?;

        self.say(subject, "counting system calls");
        for method in &mut methods {
            if let Some(why) = method.count_calls(&self.runner)? {
                let note = format!(
                    "system calls are not counted: {why} (root may trace any program, unless kernel.yama.ptrace_scope is 3)"
                );
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        if !methods.iter().all(Method::is_steady) {
            notes.push(
                "its changes were not the same in every turn: something worked in it meanwhile"
                    .to_owned(),
            );
        }
        Ok(Turned {
            target: Bytes::from(target.as_bytes()),
            looked: first.looked,
            engine,
            methods,
            notes,
        })
    }

    fn turns(&mut self, subject: &Subject, methods: &mut [Method]) -> Result<(), CliError> {
        for turn in 0..=self.runs {
            self.say(subject, &format!("turn {turn} of {}", self.runs));
            let counts = if turn == 0 { Counts::Not } else { Counts::Warm };
            for method in &mut *methods {
                method.turn(&self.runner, counts)?;
            }
        }
        let Some(caches) = self.caches.as_deref_mut() else {
            return Ok(());
        };
        for turn in 1..=self.runs {
            let text = format!("{}: cold turn {turn} of {}", subject.name, self.runs);
            self.talk.note(&text);
            for method in &mut *methods {
                self.runner.pause()?;
                caches.drop()?;
                method.turn(&self.runner, Counts::Cold)?;
            }
        }
        Ok(())
    }

    fn say(&self, subject: &Subject, what: &str) {
        self.talk.note(&format!("{}: {what}", subject.name));
    }
}

/// Returns where the methods differ in what they found, the first of them being what the others are
/// held against.
fn disagreements(methods: &mut [Method]) -> Result<Vec<String>, CliError> {
    let Some((first, others)) = methods.split_first_mut() else {
        return Ok(Vec::new());
    };
    let first = first.claims()?;
    let mut all = Vec::new();
    for other in others {
        all.extend(first.disagreements(&other.claims()?));
    }
    Ok(all)
}
