//! Gives each input of `fuzz/corpus` to the decoder that it was kept for, as `fuzz/` does with any bytes.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use plimsoll_core::fuzzing::Target;

/// What the corpus may take at most: inputs of one target, bytes of one input, bytes of all.
const INPUTS_MAX: usize = 400;
const INPUT_MAX: u64 = 64 << 10;
const CORPUS_MAX: u64 = 3 << 20;

/// All decoders, by the name that target and corpus have as well.
fn targets() -> Vec<Target> {
    [
        plimsoll_core::fuzzing::TARGETS,
        plimsoll_host::fuzzing::TARGETS,
        plimsoll_cli::fuzzing::TARGETS,
    ]
    .concat()
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// Returns what lies in a directory of `fuzz/`, by name without extension, sorted.
fn listed(directory: &str) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(fuzz().join(directory)).unwrap();
    let mut listed: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path))
        .collect();
    listed.sort();
    listed
}

#[test]
fn every_decoder_has_a_target_and_a_corpus() {
    let targets = targets();
    let names: BTreeSet<String> = targets.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names.len(), targets.len(), "two decoders of one name");
    let of = |directory| {
        listed(directory)
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    };
    let (programs, corpora): (BTreeSet<String>, BTreeSet<String>) =
        (of("fuzz_targets"), of("corpus"));
    assert_eq!(programs, names, "fuzz/fuzz_targets");
    assert_eq!(corpora, names, "fuzz/corpus");
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let declared = manifest.split("[[bin]]\nname = \"").skip(1);
    let declared: BTreeSet<String> = declared
        .map(|rest| rest[..rest.find('"').unwrap()].to_owned())
        .collect();
    assert_eq!(declared, names, "fuzz/Cargo.toml");
    for (name, path) in listed("fuzz_targets") {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(
            text.ends_with(&format!("::fuzzing::{name}(data));\n")),
            "{text}"
        );
    }
}

#[test]
fn the_corpus_is_small() {
    let mut total = 0;
    for (name, folder) in listed("corpus") {
        let sizes: Vec<u64> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert!(
            (1..=INPUTS_MAX).contains(&sizes.len()),
            "{name}: {} inputs",
            sizes.len()
        );
        assert!(sizes.iter().all(|size| *size < INPUT_MAX), "{name}");
        total += sizes.iter().sum::<u64>();
    }
    assert!(total < CORPUS_MAX, "{total} bytes");
}

#[test]
fn every_input_is_decoded_as_it_should_be() {
    let failed: Vec<PathBuf> = std::thread::scope(|scope| {
        let threads: Vec<_> = targets()
            .into_iter()
            .map(|target| scope.spawn(move || replay(target)))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Returns the inputs of a target for which its property does not hold.
fn replay((name, decode): Target) -> Vec<PathBuf> {
    let mut failed = Vec::new();
    for entry in std::fs::read_dir(fuzz().join("corpus").join(name)).unwrap() {
        let path = entry.unwrap().path();
        let input = std::fs::read(&path).unwrap();
        if std::panic::catch_unwind(|| decode(&input)).is_err() {
            eprintln!("{}", path.display());
            failed.push(path);
        }
    }
    failed
}
