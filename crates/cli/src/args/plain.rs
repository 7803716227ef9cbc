//! The commonest command lines, read without the description of all options: to make that, and to go by it,
//! is a tenth of what the check of one container costs.
//!
//! What is read here means what clap takes it to mean, and whatever is not plain is left to clap.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use clap::ValueEnum;

use super::{CheckArgs, Cli, Command, Comparison, DiffArgs, IdentityArgs, LookArgs, Settings};

/// How the name of every environment variable begins that gives a value.
const VARIABLE: &[u8] = b"PLIMSOLL_";

/// Returns what the arguments of this process ask for, its own name left out, where they are plain and the
/// environment says nothing.
pub(crate) fn of_this_process() -> Option<Cli> {
    let mut arguments = std::env::args_os().skip(1);
    let cli = parse(&mut arguments)?;
    let of_ours = |name: &OsStr| name.as_bytes().starts_with(VARIABLE);
    (!std::env::vars_os().any(|(name, _)| of_ours(&name))).then_some(cli)
}

/// Returns what these arguments ask for: `check` or `diff`, targets, and options that have one value each,
/// every one at most once. `None` for anything else, also for what is wrong: clap says why.
fn parse(arguments: &mut dyn Iterator<Item = OsString>) -> Option<Cli> {
    let command = arguments.next()?;
    if command != "check" && command != "diff" {
        return None;
    }
    let mut targets = Vec::new();
    let mut settings = Settings::default();
    while let Some(argument) = arguments.next() {
        match argument.as_bytes() {
            [] => return None,
            [b'-', b'-', option @ ..] => {
                let (name, value) = match option.iter().position(|b| *b == b'=') {
                    Some(at) => {
                        let (name, value) = option.split_at(at);
                        (name, OsStr::from_bytes(value.get(1..)?).to_owned())
                    }
                    None => (option, arguments.next()?),
                };
                if matches!(value.as_bytes(), [] | [b'-', ..]) {
                    return None;
                }
                set(&mut settings, name, value)?;
            }
            [b'-', ..] => return None,
            _ => targets.push(argument),
        }
    }
    let look = LookArgs {
        paths: Vec::new(),
        settings,
        output: None,
        baseline: None,
        identity: IdentityArgs::default(),
    };
    let command = match command == "check" {
        true => Command::Check(CheckArgs { targets, look }),
        false => Command::Diff(DiffArgs {
            target: targets.pop().filter(|_| targets.is_empty())?,
            look,
        }),
    };
    Some(Cli {
        command,
        verbose: 0,
        quiet: false,
        config: None,
    })
}

/// Gives an option its value; `None` for one that has it already, is not known here, or takes other values.
fn set(settings: &mut Settings, option: &[u8], value: OsString) -> Option<()> {
    let Settings { places, comparison } = settings;
    let Comparison {
        engine,
        algorithm,
        confirm,
        layers,
        state,
        policy,
        format,
        ..
    } = comparison;
    match option {
        b"runtime" => once(&mut places.runtime, value.into_string().ok()?),
        b"docker-host" => once(&mut places.docker_host, value.into_string().ok()?),
        b"data-root" => once(&mut places.data_root, value.into()),
        b"root" => once(&mut places.root, value.into()),
        b"engine" => once(engine, one_of(&value)?),
        b"algorithm" => once(algorithm, one_of(&value)?),
        b"confirm" => once(confirm, one_of(&value)?),
        b"layers" => once(layers, one_of(&value)?),
        b"state" => once(state, value.into()),
        b"policy" => once(policy, value.into()),
        b"format" => once(format, one_of(&value)?),
        _ => None,
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    match place {
        Some(_) => None,
        None => {
            *place = Some(value);
            Some(())
        }
    }
}

fn one_of<T: ValueEnum>(value: &OsStr) -> Option<T> {
    T::from_str(value.to_str()?, false).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use clap::Parser as _;

    use super::*;

    /// Words that command lines are made of, plain ones and others.
    const WORDS: [&[u8]; 50] = [
        b"check",
        b"diff",
        b"list",
        b"help",
        b"web",
        b"db",
        b"overlay:/mnt/merged",
        b"",
        b"-",
        b"--",
        b"-v",
        b"-q",
        b"-o",
        b"-h",
        b"--help",
        b"--version",
        b"--format",
        b"--forma",
        b"--format=json",
        b"--format=",
        b"--format=JSON",
        b"--format=-",
        b"--format==json",
        b"json",
        b"docker",
        b"--data-root",
        b"--data-root=/srv/docker",
        b"/srv/docker",
        b"\xff",
        b"--data-root=\xff",
        b"--runtime",
        b"--runtime=\xff",
        b"--runtime=docker",
        b"--docker-host=unix:///run/docker.sock",
        b"--root",
        b"--engine",
        b"overlay",
        b"--engine=btrfs",
        b"--algorithm=md5",
        b"--confirm=never",
        b"--layers=trust",
        b"--layers",
        b"--state=/a",
        b"--policy=web.yaml",
        b"--atomic",
        b"--atomic=false",
        b"--jobs=1",
        b"--output=x",
        b"--config=x",
        b"--reference=x",
    ];

    /// Whatever is read here, clap reads the same.
    fn holds(words: &[&[u8]]) -> bool {
        let arguments = || words.iter().map(|word| OsString::from_vec(word.to_vec()));
        let Some(plain) = parse(&mut arguments()) else {
            return false;
        };
        let by_clap = Cli::try_parse_from(std::iter::once("plimsoll".into()).chain(arguments()));
        match by_clap {
            Ok(by_clap) => assert_eq!(format!("{plain:?}"), format!("{by_clap:?}")),
            Err(error) => panic!("{words:?}: {error}"),
        }
        true
    }

    #[test]
    fn clap_reads_the_same() {
        let mut read = 0;
        for command in [&b"check"[..], b"diff", b"list"] {
            read += usize::from(holds(&[command]));
            for first in WORDS {
                read += usize::from(holds(&[command, first]));
                for second in WORDS {
                    read += usize::from(holds(&[command, first, second]));
                    for third in ["web", "json", "--format=docker", "--state=/b", "-v"] {
                        read += usize::from(holds(&[command, first, second, third.as_bytes()]));
                    }
                }
            }
        }
        // Longer ones, of words by chance.
        let mut state = 1_u64;
        let mut word = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            WORDS[usize::try_from(state >> 33).unwrap() % WORDS.len()]
        };
        for length in 4..9 {
            for _ in 0..1000 {
                let mut words = vec![&b"check"[..]];
                words.extend((0..length).map(|_| word()));
                read += usize::from(holds(&words));
            }
        }
        assert!(read > 2000, "{read}");
    }

    #[test]
    fn the_plain_ones_are_read_here() {
        for line in [
            "check",
            "check web db",
            "check web --format json --data-root /srv/docker",
            "check --runtime docker --layers=sealed",
            "diff web --format=docker",
        ] {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            assert!(holds(&words), "{line}");
        }
    }
}
