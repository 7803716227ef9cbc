//! What `check` and `diff` have in common: options to a request, measurements to a rendered report.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use indicatif::ProgressBar;
use plimsoll_core::Summary;
use plimsoll_core::model::{Algorithm, Bytes, EngineKind, Timestamp};
use plimsoll_core::policy::{Action, Lifetime, Policy, appraise};
use plimsoll_core::report::v1;
use plimsoll_core::trust::ReferenceValues;
use plimsoll_host::inspect::{Options, Request, Sources, inspect_down};
use plimsoll_host::measure::Confirm;
use plimsoll_host::seal::{self, Prover, Store};

use crate::args::{Comparison, Engine, Format, Hash, Layers, LookArgs, Places, When};
use crate::error::{CliError, shown};
use crate::output::Output;
use crate::render::{Renderer, Run, View};
use crate::talk::Talk;
use crate::{config, reference, targets};

/// A look at containers, with everything resolved.
#[derive(Debug)]
pub(super) struct Look {
    request: Request,
    /// How far the layers of images are proved.
    layers: seal::Layers,
    /// Where seals are kept.
    seals: Store,
    /// What images must be, where somebody says so.
    reference: Option<ReferenceValues>,
    policy: Policy,
    policy_file: Option<PathBuf>,
    format: Format,
    view: View,
    output: Option<PathBuf>,
}

impl Look {
    /// Resolves arguments and configuration.
    ///
    /// # Errors
    /// [`CliError`] for the first thing that makes no sense.
    pub(super) fn new(
        names: &[OsString],
        args: LookArgs,
        config: Option<&Path>,
        view: View,
    ) -> Result<Self, CliError> {
        let settings = args.settings.or(config::load(config)?);
        let format = settings.comparison.format.unwrap_or(Format::Table);
        if format == Format::Docker && view == View::Check {
            return Err(
                CliError::new("--format docker lists the changes of one container")
                    .hint("plimsoll diff TARGET --format docker"),
            );
        }
        let (policy, policy_file) = match settings.comparison.policy.clone() {
            Some(file) => (read_policy(&file)?, Some(file)),
            None => (Policy::default(), None),
        };
        let layers = how(settings.comparison.layers, !args.paths.is_empty());
        let seals = store(settings.comparison.state.as_deref());
        let mut options = options(&settings.comparison);
        options.baseline = args.baseline;
        options.expand |= policy.needs_expansion();
        Ok(Self {
            request: Request {
                sources: Sources {
                    jobs: options.jobs,
                    ..sources(settings.places)?
                },
                targets: names
                    .iter()
                    .map(|n| targets::parse(n))
                    .collect::<Result<_, _>>()?,
                paths: args
                    .paths
                    .iter()
                    .map(|p| targets::inside(p))
                    .collect::<Result<_, _>>()?,
                options,
            },
            layers,
            seals,
            reference: reference::load(&args.identity)?,
            policy,
            policy_file,
            format,
            view,
            output: args.output,
        })
    }
}

/// Looks, renders, and returns the exit code.
///
/// # Errors
/// [`CliError`] when nothing could be inspected or the output not be written.
pub(super) fn look(look: &Look, talk: &Talk) -> Result<u8, CliError> {
    let now = now();
    tell_lapsed(look, now, *talk);
    let open = match look.format {
        Format::Table => Output::open,
        Format::Json | Format::Ndjson | Format::Docker => Output::open_plain,
    };
    let mut out = open(look.output.as_deref())?;
    let run = Run {
        tool: tool(),
        host: v1::Host {
            name: Bytes::from(rustix::system::uname().nodename().to_bytes()),
        },
        time: now,
        paths: look.request.paths.clone(),
    };
    let width = out.width();
    let mut renderer = Renderer::new(look.format, look.view, run, width, talk.is_verbose());
    let mut summary = Summary::default();
    let mut written = Ok(());
    let progress = progress(look, *talk);

    let jobs = look.request.options.jobs;
    let prover = Prover::new(look.layers, look.seals.clone(), jobs);
    let mut prover = prover.with_reference(look.reference.clone());
    let gaps = inspect_down(&look.request, &mut prover, &mut |measurement| {
        if let Some(progress) = &progress {
            progress.inc(1);
        }
        let appraisal = appraise(&measurement, &look.policy, now);
        let container = v1::Container::new(measurement, appraisal);
        summary.add(container.verdict);
        // A container that cannot be delivered ends no one else's measurement: the error is told
        // when all are done.
        if written.is_ok() {
            written = renderer.container(container, &mut out);
        }
    })?;
    if let Some(progress) = progress {
        progress.finish_and_clear();
    }

    let gaps: Vec<v1::Gap> = gaps
        .into_iter()
        .map(|gap| {
            let accepted = look.policy.accepts(&gap);
            if !accepted {
                talk.gap(&gap);
            }
            v1::Gap::new(gap, accepted)
        })
        .collect();
    if !look.request.paths.is_empty() {
        talk.note("only the paths given were looked at: the verdict is about no other");
    }
    let code = v1::exit_code(summary, &gaps);
    written
        .and_then(|()| renderer.finish(gaps, summary, &mut out, *talk))
        .and_then(|()| out.finish())
        .map_err(|error| CliError::writing(&error))?;
    Ok(code)
}

/// Returns which program this is.
pub(super) fn tool() -> v1::Tool {
    v1::Tool {
        name: env!("CARGO_PKG_NAME").into(),
        version: env!("CARGO_PKG_VERSION").into(),
    }
}

/// Returns the time of the host's clock.
pub(super) fn now() -> Timestamp {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => Timestamp {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: since.subsec_nanos(),
        },
        Err(_) => Timestamp {
            seconds: 0,
            nanoseconds: 0,
        },
    }
}

/// Returns where containers are looked for.
///
/// # Errors
/// [`CliError`] for a runtime that is not known and an address on another machine.
pub(super) fn sources(places: Places) -> Result<Sources, CliError> {
    Ok(Sources {
        runtime: places
            .runtime
            .as_deref()
            .map(targets::runtime)
            .transpose()?,
        docker_host: places.docker_host.as_deref().map(socket).transpose()?,
        data_root: places.data_root,
        root: places.root,
        sandboxes: places.sandboxes.unwrap_or(false),
        jobs: None,
    })
}

fn socket(url: &str) -> Result<PathBuf, CliError> {
    let path = url.strip_prefix("unix://").unwrap_or(url);
    if path.starts_with('/') {
        return Ok(path.into());
    }
    let shown = plimsoll_core::model::escape(url.as_bytes());
    if url.contains("://") {
        return Err(CliError::new(format!(
            "--docker-host {shown}: the layers lie on that machine, and only a socket on this one leads to layers here"
        ))
        .hint("run plimsoll where the daemon runs, with --docker-host unix:///path/to/docker.sock"));
    }
    Err(
        CliError::new(format!("--docker-host {shown}: not an absolute path"))
            .hint("--docker-host unix:///path/to/docker.sock"),
    )
}

fn options(settings: &Comparison) -> Options {
    let default = Options::default();
    Options {
        engine: match settings.engine {
            None | Some(Engine::Auto) => None,
            Some(Engine::Overlay) => Some(EngineKind::Overlay),
            Some(Engine::Btrfs) => Some(EngineKind::Btrfs),
            Some(Engine::Digest) => Some(EngineKind::Digest),
        },
        algorithm: match settings.algorithm {
            Some(Hash::Md5) => Algorithm::Md5,
            None | Some(Hash::Sha256) => Algorithm::Sha256,
            Some(Hash::Blake3) => Algorithm::Blake3,
        },
        confirm: match settings.confirm {
            None | Some(When::Auto) => Confirm::Auto,
            Some(When::Always) => Confirm::Always,
            Some(When::Never) => Confirm::Never,
        },
        atomic: settings.atomic.unwrap_or(false),
        jobs: settings.jobs.and_then(|jobs| NonZero::new(jobs as usize)),
        expand: settings.expand.unwrap_or(false),
        max_changes: settings
            .max_changes
            .map_or(default.max_changes, |max| max as usize),
        baseline: None,
    }
}

/// Returns how far layers are proved. The cost of a path is the same whatever the image's size, which no
/// look at all its layers is.
fn how(layers: Option<Layers>, only_paths: bool) -> seal::Layers {
    match layers {
        None if only_paths => seal::Layers::Trust,
        None => seal::Layers::Auto,
        Some(Layers::Trust) => seal::Layers::Trust,
        Some(Layers::Sealed) => seal::Layers::Sealed,
        Some(Layers::Digest) => seal::Layers::Digest,
    }
}

/// Returns where seals are kept.
pub(super) fn store(state: Option<&Path>) -> Store {
    state.map_or_else(Store::default, Store::at)
}

fn read_policy(file: &Path) -> Result<Policy, CliError> {
    let text = config::text("cannot read the policy", file)?
        .ok_or_else(|| CliError::new(format!("there is no policy file {}", shown(file))))?;
    Policy::parse(&text).map_err(|error| CliError::new(format!("{}, {error}", shown(file))))
}

fn tell_lapsed(look: &Look, now: Timestamp, talk: Talk) {
    for rule in look.policy.lapsed(now) {
        let file = look.policy_file.as_deref().map(shown).unwrap_or_default();
        let why = match &rule.action {
            Action::Allow(Lifetime::Unreadable(date)) => {
                format!(
                    "its date \"{}\" cannot be read",
                    plimsoll_core::model::escape(date.as_bytes())
                )
            }
            _ => "it has expired".to_owned(),
        };
        talk.warn(&format!(
            "rule \"{}\" of {file} allows nothing: {why}",
            rule.name
        ));
    }
}

/// Returns a sign of life on stderr; none where that is no terminal, or lines appear anyway.
fn progress(look: &Look, talk: Talk) -> Option<ProgressBar> {
    let lines = matches!(look.format, Format::Ndjson | Format::Docker);
    if talk.is_quiet() || lines || !std::io::stderr().is_terminal() {
        // Nobody would see it, and a thread that draws it costs more than a check.
        return None;
    }
    let bar = ProgressBar::new_spinner().with_message("containers looked at");
    if let Ok(style) = indicatif::ProgressStyle::with_template("{spinner} {pos} {msg} ({elapsed})")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    Some(bar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_on_this_machine() {
        assert_eq!(
            socket("unix:///run/d.sock").unwrap(),
            PathBuf::from("/run/d.sock")
        );
        assert_eq!(socket("/run/d.sock").unwrap(), PathBuf::from("/run/d.sock"));
        for far in ["tcp://10.0.0.1:2375", "ssh://host", "http://h"] {
            assert!(
                socket(far).unwrap_err().message.contains("on that machine"),
                "{far}"
            );
        }
        assert!(socket("docker.sock").is_err());
        assert!(socket("unix://docker.sock").is_err());
    }

    #[test]
    fn layers_are_trusted_where_only_paths_are_asked_for() {
        for (layers, of_paths, all) in [
            (None, seal::Layers::Trust, seal::Layers::Auto),
            (
                Some(Layers::Trust),
                seal::Layers::Trust,
                seal::Layers::Trust,
            ),
            (
                Some(Layers::Sealed),
                seal::Layers::Sealed,
                seal::Layers::Sealed,
            ),
            (
                Some(Layers::Digest),
                seal::Layers::Digest,
                seal::Layers::Digest,
            ),
        ] {
            assert_eq!(how(layers, true), of_paths);
            assert_eq!(how(layers, false), all);
        }
    }
}
