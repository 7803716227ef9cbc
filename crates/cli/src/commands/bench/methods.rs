//! The methods that are compared, each a command line of the program itself.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use plimsoll_core::model::{Algorithm, Bytes, EngineKind};

use super::agreement::Claims;
use super::figures::{Figures, Sample};
use super::json::{Measured, Storing};
use super::turn::{Looked, Runner, shell};
use crate::args::Places;
use crate::error::CliError;

/// What every turn is given, whatever the method.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) places: Places,
    pub(super) jobs: Option<u32>,
}

/// One way to find the changes, and what its turns took.
#[derive(Debug)]
pub(super) struct Method {
    name: String,
    engine: EngineKind,
    algorithm: Option<Algorithm>,
    arguments: Vec<OsString>,
    stored_bytes: u64,
    storing: Option<Storing>,
    warm: Vec<Sample>,
    cold: Vec<Sample>,
    calls: Option<u64>,
    /// The report of the last turn.
    report: Option<File>,
}

/// Which turns a turn is one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    /// It warms the caches, and does not count.
    Not,
    Warm,
    Cold,
}

impl Setting {
    /// Returns the command line that gives the report on a container, by the engine that it has.
    pub(super) fn check(&self, target: &OsString, more: &[&str]) -> Vec<OsString> {
        let mut arguments = self.begin("check", target);
        arguments.extend(["--format", "json"].map(OsString::from));
        arguments.extend(more.iter().map(OsString::from));
        arguments
    }

    /// Nothing of the machine's configuration, or of the environment, is left to chance: what it said
    /// stands among the arguments.
    fn begin(&self, command: &str, target: &OsString) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![command.into(), target.clone()];
        let Places {
            runtime,
            docker_host,
            data_root,
            root,
            sandboxes,
        } = &self.places;
        let mut option = |name: &str, value: Option<OsString>| {
            if let Some(value) = value {
                arguments.extend([name.into(), value]);
            }
        };
        option("--runtime", runtime.as_ref().map(OsString::from));
        option("--docker-host", docker_host.as_ref().map(OsString::from));
        option("--data-root", data_root.as_ref().map(OsString::from));
        option("--root", root.as_ref().map(OsString::from));
        option("--jobs", self.jobs.map(|jobs| jobs.to_string().into()));
        option("--config", Some("/dev/null".into()));
        if *sandboxes == Some(true) {
            arguments.push("--sandboxes".into());
        }
        arguments.push("--quiet".into());
        arguments
    }

    /// Returns the engine that the storage driver has, exact and by metadata alone; none for two
    /// plain trees.
    pub(super) fn metadata(&self, target: &OsString, engine: EngineKind) -> Vec<Method> {
        if engine == EngineKind::Digest {
            return Vec::new();
        }
        let word = engine.as_str();
        [("exact", "auto"), ("pure", "never")]
            .map(|(name, confirm)| Method {
                name: format!("{word} {name}"),
                engine,
                arguments: self.check(target, &["--engine", word, "--confirm", confirm]),
                ..Method::new()
            })
            .into()
    }

    /// Stores the digests of the image in `directory`, and returns the method that compares with
    /// them: so only the container's side is read in a turn, which is the best that hashing can do.
    ///
    /// # Errors
    /// [`CliError`] when anything of the image cannot be read.
    pub(super) fn digest(
        &self,
        target: &OsString,
        algorithm: Algorithm,
        staging: &Path,
        directory: &Path,
        runner: &Runner,
    ) -> Result<Method, CliError> {
        let word = algorithm.as_str();
        let store = |directory: &Path| {
            let mut arguments = self.begin("baseline", target);
            arguments.extend(["--algorithm".into(), word.into()]);
            arguments.extend(["--output".into(), directory.join(word).into_os_string()]);
            arguments
        };
        let took = runner.run(&store(staging))?;
        let file = directory.join(word);
        if staging != directory {
            std::fs::rename(staging.join(word), &file)
                .map_err(|error| CliError::file("cannot write", &file, &error))?;
        }
        let stored_bytes = std::fs::metadata(&file)
            .map_err(|error| CliError::file("cannot read", &file, &error))?
            .len();
        let mut arguments = self.check(target, &["--engine", "digest", "--algorithm", word]);
        arguments.extend(["--baseline".into(), file.into_os_string()]);
        let micros =
            |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Ok(Method {
            name: format!("digest {word}"),
            algorithm: Some(algorithm),
            arguments,
            stored_bytes,
            storing: Some(Storing {
                // As it is to be repeated: with the file in its place.
                command: shell(&store(directory)),
                wall_micros: micros(took.wall),
                cpu_micros: micros(took.usage.user + took.usage.system),
                peak_memory_bytes: took.usage.peak_memory,
            }),
            ..Method::new()
        })
    }
}

impl Method {
    fn new() -> Self {
        Self {
            name: String::new(),
            engine: EngineKind::Digest,
            algorithm: None,
            arguments: Vec::new(),
            stored_bytes: 0,
            storing: None,
            warm: Vec::new(),
            cold: Vec::new(),
            calls: None,
            report: None,
        }
    }

    /// Takes a turn.
    ///
    /// # Errors
    /// [`CliError`] when it could not be done, or nothing could be compared.
    pub(super) fn turn(&mut self, runner: &Runner, counts: Counts) -> Result<(), CliError> {
        let turn = runner.check(&self.arguments)?;
        compared(&turn.looked)
            .map_err(|error| CliError::new(format!("{}, by {}", error.message, self.name)))?;
        match counts {
            Counts::Not => {}
            Counts::Warm => self.warm.push(turn.sample),
            Counts::Cold => self.cold.push(turn.sample),
        }
        self.report = Some(turn.report);
        Ok(())
    }

    /// Counts the system calls, and returns why it could not.
    ///
    /// # Errors
    /// [`CliError`] of an interrupt.
    pub(super) fn count_calls(&mut self, runner: &Runner) -> Result<Option<String>, CliError> {
        let usual = self.warm.last().map(|sample| sample.gaps);
        Ok(match runner.calls(&self.arguments)? {
            // A program with privileges of its own runs without them when it is traced.
            Ok((_, looked)) if Some(looked.gaps.len()) != usual => {
                Some("what is traced could not see what it sees otherwise".to_owned())
            }
            Ok((calls, _)) => {
                self.calls = Some(calls);
                None
            }
            Err(why) => Some(why),
        })
    }

    /// Returns what it said in its last turn.
    ///
    /// # Errors
    /// [`CliError`] when the report cannot be read again.
    pub(super) fn claims(&mut self) -> Result<Claims, CliError> {
        match &mut self.report {
            Some(report) => Claims::of(&self.name, report),
            None => Err(CliError::new(format!("{} took no turn", self.name))),
        }
    }

    /// Whether each of its turns found as many changes as the others.
    pub(super) fn is_steady(&self) -> bool {
        let mut counts = self.warm.iter().chain(&self.cold);
        let first = counts.next().map(|s| (s.changes, s.gaps));
        counts.all(|s| Some((s.changes, s.gaps)) == first)
    }

    /// Returns what is told of it; `None` when it took no turn.
    pub(super) fn measured(self) -> Option<Measured> {
        let last = *self.cold.last().or(self.warm.last())?;
        Some(Measured {
            command: shell(&self.arguments),
            arguments: self
                .arguments
                .iter()
                .map(|a| Bytes::from(a.as_bytes()))
                .collect(),
            name: self.name,
            engine: self.engine,
            algorithm: self.algorithm,
            stored_bytes: self.stored_bytes,
            storing: self.storing,
            changes: last.changes,
            unconfirmed: last.unconfirmed,
            gaps: last.gaps,
            system_calls: self.calls,
            warm: Figures::of(self.warm)?,
            cold: Figures::of(self.cold),
        })
    }
}

/// Returns the engine that compared a container.
///
/// # Errors
/// [`CliError`] with the reason why none did.
pub(super) fn compared(looked: &Looked) -> Result<EngineKind, CliError> {
    looked.engine.ok_or_else(|| {
        let why: Vec<String> = looked.gaps.iter().map(ToString::to_string).collect();
        CliError::new(format!(
            "the container cannot be compared: {}",
            why.join("; ")
        ))
    })
}

/// Makes the directory that the digests of one container's image are stored in: `kept` itself, or one
/// beneath it for each of several containers.
///
/// # Errors
/// [`CliError`] when it cannot be made.
pub(super) fn directory(
    kept: &Path,
    alone: bool,
    number: usize,
    id: &str,
) -> Result<std::path::PathBuf, CliError> {
    let directory = if alone {
        kept.to_owned()
    } else {
        // An id may be a path, and as long as one.
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let id: String = id.chars().take(64).map(plain).collect();
        kept.join(format!("{number}-{id}"))
    };
    make(&directory)?;
    Ok(directory)
}

/// Makes a directory, unless it is there.
///
/// # Errors
/// [`CliError`] when it cannot be made.
pub(super) fn make(directory: &Path) -> Result<(), CliError> {
    std::fs::create_dir_all(directory)
        .map_err(|error| CliError::file("cannot make", directory, &error))
}
