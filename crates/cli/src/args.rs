//! The command line.

mod identity;
mod image;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use serde::Deserialize;

pub(crate) use self::identity::IdentityArgs;
pub(crate) use self::image::{ImageCommand, VerifyArgs};

/// The meaning of the exit codes: a public promise, as in diff(1).
macro_rules! exit_codes {
    () => {
        "\
Exit codes:
  0  intact, or every change is allowed by the policy
  1  violated: a change that the policy does not allow
  2  unknown: something could not be seen, or the run could not be done
"
    };
}

const AFTER_HELP: &str = concat!(
    exit_codes!(),
    "
Examples:
  plimsoll check                       every container on this host
  plimsoll check web db                these two
  plimsoll check web -- /etc/passwd    only this path of it
  plimsoll list                        the containers, and where their layers lie
  plimsoll diff web                    what changed, one path a line
  plimsoll diff overlay:/mnt/merged    an overlay mount, without any runtime
  plimsoll check --format ndjson       a line a change, for a log collector
  plimsoll demo                        see it find what timestamps hide

Environment:
  PLIMSOLL_CONFIG   a configuration file, in place of the two below
  PLIMSOLL_OPTION   the value of --OPTION, in capitals and with _ for -
  NO_COLOR          no colour, whatever the terminal can do

Files:
  /etc/plimsoll/config.yaml, $XDG_CONFIG_HOME/plimsoll/config.yaml
                    values of options: \"engine: overlay\". The command line comes before
                    the environment, that before your file, that before /etc
"
);

const AFTER_TARGETS: &str = concat!(
    "\
TARGET is one of:
  NAME, ID              a container of any runtime; an id may be shortened
  docker:NAME           the same, of Docker
  podman:NAME           of Podman
  cri-o:NAME            of CRI-O
  containerd:NAME       of containerd, also containerd:NAMESPACE/ID
  k8s:NAMESPACE/POD/CONTAINER
                        a container of a Kubernetes pod
  overlay:MOUNTPOINT    an overlay mount
  pid:NUMBER            what a process has as its root, in any mount namespace
  btrfs:SUBVOLUME       a Btrfs snapshot, compared with what it was made of
  tree:IMAGE:CONTAINER  two directories

",
    exit_codes!()
);

const AFTER_BENCH: &str = "\
Exit codes:
  0  every container was compared, and the methods found the same changes
  2  they did not, or the run could not be done

Examples:
  plimsoll bench web                   on this container
  plimsoll bench --runs 9 --html a.html
                                       on every container, with a page of plots
  plimsoll bench overlay:/mnt/merged   on an overlay mount, without any runtime
";

/// Tells from outside which files of a container differ from its image.
///
/// It reads what overlayfs and Btrfs keep anyway, so that its cost follows the changes and not the
/// size of the image, in any state of the container and with nothing installed in it.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Say more: allowed changes, details, the cost
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Say nothing on stderr but warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Read this configuration file and no other
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "PLIMSOLL_CONFIG",
        hide_env = true
    )]
    pub(crate) config: Option<PathBuf>,
}

/// What to do. Only the command that is asked for is built; a doc comment on its arguments would take
/// the place of what is said of the command here.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    /// Give the verdict on each container
    #[command(after_help = AFTER_TARGETS)]
    Check(CheckArgs),
    /// List the changes of one container, one a line
    ///
    /// A added, C changed, D deleted, T another file type; ? not seen.
    #[command(after_help = AFTER_TARGETS)]
    Diff(DiffArgs),
    /// List the containers and where their layers lie, comparing nothing
    #[command(
        after_help = "Exit codes:\n  0  every container is listed, and its layers are found\n  2  something could not be found, or the run could not be done"
    )]
    List(ListArgs),
    /// Prove that the layers of images lie on disk as their digests say, and remember it
    #[command(subcommand)]
    Image(ImageCommand),
    /// Tell what can be seen on this host, what is missing, and the remedy
    #[command(after_help = "Exit codes:\n  0  everything is there\n  2  something is missing")]
    Doctor(DoctorArgs),
    /// Make a throwaway container, tamper with it, and see what is found (needs root)
    Demo(DemoArgs),
    /// Compare the metadata engines with hashing everything, on containers of yours
    ///
    /// Each turn of each method is a run of plimsoll check in a process of its own, and the methods
    /// take turns. Of each: elapsed and processor time, peak memory, bytes read, system calls, and
    /// the bytes that have to be stored beforehand.
    #[command(after_help = AFTER_BENCH)]
    Bench(BenchArgs),
    /// Store the digests of a container's image, for check --baseline
    #[command(
        after_help = "Exit codes:\n  0  stored\n  2  something of the image could not be read"
    )]
    Baseline(BaselineArgs),
    /// Write the completions of a shell to stdout
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// Where to; it must be there
        directory: PathBuf,
    },
}

// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Containers; every one that is found when none is given
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
    #[command(flatten)]
    pub(crate) look: LookArgs,
}

// Arguments of `diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The container
    #[arg(value_name = "TARGET")]
    pub(crate) target: OsString,
    #[command(flatten)]
    pub(crate) look: LookArgs,
}

// Arguments of every command that looks at containers and reports.
#[derive(Debug, Args)]
pub(crate) struct LookArgs {
    /// Only these paths inside the container, each at a constant cost
    #[arg(last = true, value_name = "PATHS")]
    pub(crate) paths: Vec<OsString>,
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Write to this file, which appears whole or not at all
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub(crate) output: Option<PathBuf>,
    /// Compare with this stored digest baseline, in place of the image
    #[arg(long, value_name = "FILE", help_heading = "How it is compared")]
    pub(crate) baseline: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
}

// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Containers; every one that is found when none is given
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
    /// More columns: where the layers lie, namespace, pod, user, process
    #[arg(short, long, value_enum, value_name = "COLUMNS")]
    pub(crate) output: Option<Columns>,
    /// Form of the output: table, json or ndjson
    #[arg(long, value_name = "FORMAT", env = "PLIMSOLL_FORMAT", hide_env = true)]
    pub(crate) format: Option<Format>,
    #[command(flatten)]
    pub(crate) places: Places,
}

// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) places: Places,
    /// Form of the output: table or json
    #[arg(long, value_name = "FORMAT", env = "PLIMSOLL_FORMAT", hide_env = true)]
    pub(crate) format: Option<Format>,
}

// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Keep the directory and the mounts, to look around in
    #[arg(long)]
    pub(crate) keep: bool,
}

// Arguments of `bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Containers; every one that is found when none is given
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
    /// Turns of each method that count; one more goes before them
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) runs: u32,
    /// Take as many turns again with cold caches: before each, the caches of the WHOLE HOST are dropped,
    /// which slows down everything on it for a while (root)
    #[arg(long)]
    pub(crate) drop_caches: bool,
    /// Write a page with plots to this file too, which appears whole or not at all
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Keep the stored digests of the image in this directory, for check --baseline
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// Form of the output: table or json
    #[arg(long, value_name = "FORMAT", env = "PLIMSOLL_FORMAT", hide_env = true)]
    pub(crate) format: Option<Format>,
    /// Threads of the digest engine [default: one a processor]
    #[arg(long, value_name = "N", value_parser = jobs(), env = "PLIMSOLL_JOBS", hide_env = true)]
    pub(crate) jobs: Option<u32>,
    #[command(flatten)]
    pub(crate) places: Places,
}

// Arguments of `baseline`.
#[derive(Debug, Args)]
pub(crate) struct BaselineArgs {
    /// The container whose image it is
    #[arg(value_name = "TARGET")]
    pub(crate) target: OsString,
    /// Hash function [default: sha256]
    #[arg(
        long,
        value_enum,
        value_name = "NAME",
        env = "PLIMSOLL_ALGORITHM",
        hide_env = true
    )]
    pub(crate) algorithm: Option<Hash>,
    /// Write to this file, which appears whole or not at all
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Threads that hash [default: one a processor]
    #[arg(long, value_name = "N", value_parser = jobs(), env = "PLIMSOLL_JOBS", hide_env = true)]
    pub(crate) jobs: Option<u32>,
    #[command(flatten)]
    pub(crate) places: Places,
}

// Where containers are looked for. Each can stand in a configuration file too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct Places {
    /// Only containers of this runtime: docker, containerd, podman or cri-o
    #[arg(
        long,
        value_name = "NAME",
        env = "PLIMSOLL_RUNTIME",
        hide_env = true,
        help_heading = "Where containers are"
    )]
    pub(crate) runtime: Option<String>,
    /// Docker's socket on this machine: unix:///path, or the path
    #[arg(
        long,
        value_name = "URL",
        env = "PLIMSOLL_DOCKER_HOST",
        hide_env = true,
        help_heading = "Where containers are"
    )]
    pub(crate) docker_host: Option<String>,
    /// The data root of Docker, the root of containerd, or the graph root of Podman or CRI-O, read
    /// without asking a daemon
    #[arg(
        long,
        value_name = "DIR",
        env = "PLIMSOLL_DATA_ROOT",
        hide_env = true,
        help_heading = "Where containers are"
    )]
    pub(crate) data_root: Option<PathBuf>,
    /// A mounted disk of another machine: default paths are taken beneath it
    #[arg(
        long,
        value_name = "DIR",
        env = "PLIMSOLL_ROOT",
        hide_env = true,
        help_heading = "Where containers are"
    )]
    pub(crate) root: Option<PathBuf>,
    /// Look at the sandboxes of Kubernetes pods too
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", env = "PLIMSOLL_SANDBOXES", hide_env = true, hide_possible_values = true, help_heading = "Where containers are")]
    pub(crate) sandboxes: Option<bool>,
}

// Options that can stand on the command line, in the environment and in a configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct Settings {
    #[command(flatten)]
    pub(crate) places: Places,
    #[command(flatten)]
    pub(crate) comparison: Comparison,
}

// How containers are compared and reported. Each can stand in a configuration file too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct Comparison {
    /// What compares: auto takes the one that the storage driver has
    #[arg(
        long,
        value_enum,
        value_name = "ENGINE",
        env = "PLIMSOLL_ENGINE",
        hide_env = true,
        help_heading = "How it is compared"
    )]
    pub(crate) engine: Option<Engine>,
    /// Hash function of the digest engine [default: sha256]
    #[arg(
        long,
        value_enum,
        value_name = "NAME",
        env = "PLIMSOLL_ALGORITHM",
        hide_env = true,
        help_heading = "How it is compared"
    )]
    pub(crate) algorithm: Option<Hash>,
    /// When content is read: auto only where metadata cannot decide
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        env = "PLIMSOLL_CONFIRM",
        hide_env = true,
        help_heading = "How it is compared"
    )]
    pub(crate) confirm: Option<When>,
    /// How far the image's own layers are proved: trust takes them as they lie on disk, sealed looks
    /// whether they are as when they were sealed, digest rebuilds them [default: sealed where a layer has
    /// a seal, else trust]
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        env = "PLIMSOLL_LAYERS",
        hide_env = true,
        help_heading = "How it is compared"
    )]
    pub(crate) layers: Option<Layers>,
    /// Where plimsoll image seal keeps the seals [default: /var/lib/plimsoll]
    #[arg(
        long,
        value_name = "DIR",
        env = "PLIMSOLL_STATE",
        hide_env = true,
        help_heading = "How it is compared"
    )]
    pub(crate) state: Option<PathBuf>,
    /// Hold the container still meanwhile (writes: a snapshot, or a frozen cgroup)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", env = "PLIMSOLL_ATOMIC", hide_env = true, hide_possible_values = true, help_heading = "How it is compared")]
    pub(crate) atomic: Option<bool>,
    /// Threads that compare containers and read contents [default: one a processor]
    #[arg(long, value_name = "N", value_parser = jobs(), env = "PLIMSOLL_JOBS", hide_env = true, help_heading = "How it is compared")]
    pub(crate) jobs: Option<u32>,
    /// The rules that changes are judged by (YAML)
    #[arg(
        long,
        value_name = "FILE",
        env = "PLIMSOLL_POLICY",
        hide_env = true,
        help_heading = "Output"
    )]
    pub(crate) policy: Option<PathBuf>,
    /// Form of the output: docker is that of docker diff
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        env = "PLIMSOLL_FORMAT",
        hide_env = true,
        help_heading = "Output"
    )]
    pub(crate) format: Option<Format>,
    /// List everything beneath a deleted directory
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", env = "PLIMSOLL_EXPAND", hide_env = true, hide_possible_values = true, help_heading = "Output")]
    pub(crate) expand: Option<bool>,
    /// Keep at most this many changes of a container; the rest are a gap [default: 100000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), env = "PLIMSOLL_MAX_CHANGES", hide_env = true, help_heading = "Output")]
    pub(crate) max_changes: Option<u32>,
}

fn jobs() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=4096)
}

/// What compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    Auto,
    Overlay,
    Btrfs,
    Digest,
}

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Hash {
    Md5,
    Sha256,
    Blake3,
}

/// When content is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}

/// How far the image's layers are proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Layers {
    Trust,
    Sealed,
    Digest,
}

/// Columns of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Columns {
    Wide,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Table,
    Json,
    Ndjson,
    Docker,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn paths_stand_after_the_dashes() {
        let cli =
            Cli::try_parse_from(["plimsoll", "check", "web", "db", "--", "/etc/passwd"]).unwrap();
        let Command::Check(args) = cli.command else {
            panic!("not check")
        };
        assert_eq!(args.targets, ["web", "db"]);
        assert_eq!(args.look.paths, ["/etc/passwd"]);
        assert_eq!(args.look.settings, Settings::default());
    }

    #[test]
    fn switches_can_be_turned_off() {
        for (flag, value) in [
            ("--atomic", true),
            ("--atomic=true", true),
            ("--atomic=false", false),
        ] {
            let cli = Cli::try_parse_from(["plimsoll", "diff", flag, "web"]).unwrap();
            let Command::Diff(args) = cli.command else {
                panic!("not diff")
            };
            assert_eq!(args.look.settings.comparison.atomic, Some(value), "{flag}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            &["plimsoll"][..],
            &["plimsoll", "diff"],
            &["plimsoll", "diff", "a", "b"],
            &["plimsoll", "check", "--jobs", "0"],
            &["plimsoll", "check", "--max-changes", "0"],
            &["plimsoll", "check", "--engine", "magic"],
            &["plimsoll", "check", "-q", "-v"],
        ] {
            let error = Cli::try_parse_from(bad).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad:?}");
        }
    }
}
