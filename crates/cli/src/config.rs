//! Configuration files: the values of options that the command line and the environment leave out.
//!
//! The command line comes before the environment (clap sees to both), that before the user's file,
//! that before the system's.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use plimsoll_core::yaml::{self, YamlError};
use serde::Deserialize;

use crate::args::{Comparison, Engine, Format, Hash, Layers, Places, Settings, When};
use crate::error::{CliError, shown};

/// Largest file of the operator's that is read, in bytes.
const TEXT_LIMIT: u64 = 1 << 20;

/// Where the system's file lies.
const SYSTEM: &str = "/etc/plimsoll/config.yaml";

/// A configuration file: each key is an option without its dashes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    runtime: Option<String>,
    docker_host: Option<String>,
    data_root: Option<PathBuf>,
    root: Option<PathBuf>,
    sandboxes: Option<bool>,
    engine: Option<Engine>,
    algorithm: Option<Hash>,
    confirm: Option<When>,
    layers: Option<Layers>,
    state: Option<PathBuf>,
    atomic: Option<bool>,
    jobs: Option<u32>,
    policy: Option<PathBuf>,
    format: Option<Format>,
    expand: Option<bool>,
    max_changes: Option<u32>,
}

/// Returns what the configuration files say, the user's before the system's; `only` stands in place
/// of both and must be there.
///
/// # Errors
/// [`CliError`] when a file cannot be read or does not make sense, with the line.
pub(crate) fn load(only: Option<&Path>) -> Result<Settings, CliError> {
    if let Some(path) = only {
        return read(path)?.ok_or_else(|| {
            CliError::new(format!("there is no configuration file {}", shown(path)))
        });
    }
    let mut settings = Settings::default();
    for path in user_file().into_iter().chain([PathBuf::from(SYSTEM)]) {
        if let Some(file) = read(&path)? {
            settings = settings.or(file);
        }
    }
    Ok(settings)
}

/// Returns a text file of the operator's whole; `None` when there is none.
///
/// # Errors
/// [`CliError`] when it is there and cannot be read, is longer than 1 MiB, or no UTF-8.
pub(crate) fn text(what: &str, path: &Path) -> Result<Option<String>, CliError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CliError::file(what, path, &error)),
    };
    let mut text = String::new();
    file.take(TEXT_LIMIT + 1)
        .read_to_string(&mut text)
        .map_err(|error| CliError::file(what, path, &error))?;
    if text.len() as u64 > TEXT_LIMIT {
        return Err(CliError::new(format!(
            "{what} {}: longer than 1 MiB",
            shown(path)
        )));
    }
    Ok(Some(text))
}

fn user_file() -> Option<PathBuf> {
    // By the XDG base directory specification a relative path is to be ignored.
    let home = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".config")))?;
    Some(home.join("plimsoll/config.yaml"))
}

fn read(path: &Path) -> Result<Option<Settings>, CliError> {
    let Some(text) = text("cannot read the configuration", path)? else {
        return Ok(None);
    };
    let settings = parse(&text, path.parent().unwrap_or(Path::new("/"))).map_err(|error| {
        CliError::new(format!("{}, {error}", shown(path)))
            .hint("the keys are the options of plimsoll check --help, without dashes in front")
    })?;
    Ok(Some(settings))
}

/// Parses the text of a file that lies in `directory`; relative paths in it begin there.
pub(crate) fn parse(text: &str, directory: &Path) -> Result<Settings, YamlError> {
    // A file of comments alone is an empty one.
    if text
        .lines()
        .all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#'))
    {
        return Ok(Settings::default());
    }
    let document: Document = yaml::from_str(text)?;
    let within = |path: PathBuf| directory.join(path);
    for jobs in document.jobs.iter().chain(&document.max_changes) {
        if *jobs == 0 {
            let why = "jobs and max-changes are at least 1".into();
            return Err(YamlError { line: 0, why });
        }
    }
    Ok(Settings {
        places: Places {
            runtime: document.runtime,
            docker_host: document.docker_host,
            data_root: document.data_root.map(within),
            root: document.root.map(within),
            sandboxes: document.sandboxes,
        },
        comparison: Comparison {
            engine: document.engine,
            algorithm: document.algorithm,
            confirm: document.confirm,
            layers: document.layers,
            state: document.state.map(within),
            atomic: document.atomic,
            jobs: document.jobs,
            policy: document.policy.map(within),
            format: document.format,
            expand: document.expand,
            max_changes: document.max_changes,
        },
    })
}

impl Settings {
    /// Returns these settings, with those of `other` where they say nothing.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            places: self.places.or(other.places),
            comparison: self.comparison.or(other.comparison),
        }
    }
}

impl Places {
    /// Returns these places, with those of `other` where they say nothing.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            runtime: self.runtime.or(other.runtime),
            docker_host: self.docker_host.or(other.docker_host),
            data_root: self.data_root.or(other.data_root),
            root: self.root.or(other.root),
            sandboxes: self.sandboxes.or(other.sandboxes),
        }
    }
}

impl Comparison {
    fn or(self, other: Self) -> Self {
        Self {
            engine: self.engine.or(other.engine),
            algorithm: self.algorithm.or(other.algorithm),
            confirm: self.confirm.or(other.confirm),
            layers: self.layers.or(other.layers),
            state: self.state.or(other.state),
            atomic: self.atomic.or(other.atomic),
            jobs: self.jobs.or(other.jobs),
            policy: self.policy.or(other.policy),
            format: self.format.or(other.format),
            expand: self.expand.or(other.expand),
            max_changes: self.max_changes.or(other.max_changes),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parsed(text: &str) -> Result<Settings, YamlError> {
        parse(text, Path::new("/etc/plimsoll"))
    }

    #[test]
    fn values_and_relative_paths() {
        let settings =
            parsed("engine: digest\nalgorithm: blake3\natomic: true\npolicy: web.yaml\n").unwrap();
        assert_eq!(settings.comparison.engine, Some(Engine::Digest));
        assert_eq!(settings.comparison.atomic, Some(true));
        assert_eq!(
            settings.comparison.policy,
            Some("/etc/plimsoll/web.yaml".into())
        );
        assert_eq!(parsed("# nothing\n\n").unwrap(), Settings::default());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, why) in [
            ("engine: auto\nengin: auto\n", 2, "engin"),
            ("engine: magic\n", 1, "magic"),
            ("engine: auto\natomic: perhaps\n", 2, ""),
            ("jobs: 0\n", 0, "at least 1"),
            ("engine: auto\nengine: auto\n", 2, "engine"),
        ] {
            let error = parsed(text).unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.why.contains(why), "{error}");
        }
    }

    #[test]
    fn earlier_comes_before_later() {
        let first = parsed("engine: overlay\n").unwrap();
        let second = parsed("engine: digest\njobs: 3\n").unwrap();
        let both = first.or(second).comparison;
        assert_eq!((both.engine, both.jobs), (Some(Engine::Overlay), Some(3)));
    }

    /// Each option that reads the environment can stand in a file, and the other way round.
    #[test]
    fn files_know_every_option() {
        // A command's own options are there only once it is asked for, or all are built.
        let mut command = crate::args::Cli::command();
        command.build();
        let check = command.find_subcommand("check").unwrap();
        let options: Vec<_> = check
            .get_arguments()
            .filter(|arg| arg.get_env().is_some() && arg.get_id() != "config")
            .filter_map(|arg| arg.get_long())
            .collect();
        assert_eq!(options.len(), 16, "{options:?}");
        for option in options {
            let error = parsed(&format!("{option}: [[]]\n")).unwrap_err();
            assert!(!error.why.contains("unknown field"), "{option}: {error}");
        }
    }
}
