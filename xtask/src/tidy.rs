//! What no lint checks: how long files are, what they are called, that each says its duty, which
//! part may name which, and where `unsafe` may stand.
//!
//! Each check is a function of one source and returns what is wrong, so that it can be tested on
//! text that breaks it.

use std::path::Path;

use crate::source::{self, Source};

/// Lines of code after which a file is split.
const CODE_LIMIT: usize = 500;
/// Lines after which it is split with its tests.
const TOTAL_LIMIT: usize = 800;

/// Names that say nothing about a duty.
const EMPTY_NAMES: &[&str] = &[
    "utils", "util", "common", "helpers", "helper", "misc", "manager", "imp",
];

/// Who may not name whom: a folder, the paths, and the reason.
const ONE_WAY: &[(&str, &[&str], &str)] = &[
    (
        "crates/host/src/runtimes/",
        &["crate::measure", "crate::inspect"],
        "a runtime finds containers and knows no engine",
    ),
    (
        "crates/host/src/layers/",
        &["crate::measure", "crate::runtimes", "crate::inspect"],
        "layers are what passes between runtimes and engines",
    ),
    (
        "crates/host/src/measure/",
        &["crate::runtimes", "crate::inspect"],
        "an engine compares layers and knows no runtime",
    ),
    (
        "crates/host/src/fs/",
        &[
            "crate::measure",
            "crate::runtimes",
            "crate::layers",
            "crate::inspect",
        ],
        "file access serves the pipeline and knows nothing of it",
    ),
    (
        "crates/host/",
        &["plimsoll_cli", "clap", "anstream"],
        "the host is looked at without a terminal",
    ),
    (
        "crates/core/",
        &["plimsoll_host", "plimsoll_syscall"],
        "core says what was found and looks at nothing",
    ),
    (
        "crates/syscall/",
        &["plimsoll_host", "plimsoll_core"],
        "system calls are audited alone",
    ),
];

// In two parts, for this file is checked too.
const UNSAFE: &str = concat!("un", "safe");

const CHECKS: &[fn(&Source) -> Vec<String>] =
    &[size, name, module_doc, one_way, only_syscall_is_unsafe];

/// Checks the repository at `root` and returns what is wrong, a line each.
pub(crate) fn check(root: &Path) -> Result<(), Vec<String>> {
    let sources = source::all(root)?;
    if sources.is_empty() {
        return Err(vec![format!("no Rust file beneath {}", root.display())]);
    }
    let findings: Vec<String> = sources
        .iter()
        .flat_map(|source| CHECKS.iter().flat_map(|check| check(source)))
        .collect();
    if findings.is_empty() {
        Ok(())
    } else {
        Err(findings)
    }
}

fn size(source: &Source) -> Vec<String> {
    let total = source.text.lines().count();
    let code = if source.is_tests() {
        0
    } else {
        source
            .text
            .lines()
            .take_while(|line| *line != "#[cfg(test)]")
            .count()
    };
    let path = &source.path;
    if code > CODE_LIMIT {
        vec![format!(
            "{path}: {code} lines of code, more than {CODE_LIMIT}: split it by duty"
        )]
    } else if total > TOTAL_LIMIT {
        vec![format!(
            "{path}: {total} lines, more than {TOTAL_LIMIT}: move the tests to a file"
        )]
    } else {
        Vec::new()
    }
}

fn name(source: &Source) -> Vec<String> {
    let parts = source
        .path
        .split('/')
        .map(|part| part.trim_end_matches(".rs"));
    parts
        .filter(|part| EMPTY_NAMES.contains(part))
        .map(|part| format!("{}: \"{part}\" names no duty", source.path))
        .collect()
}

fn module_doc(source: &Source) -> Vec<String> {
    if source.text.starts_with("//!") {
        Vec::new()
    } else {
        vec![format!(
            "{}:1: begins without //! and its duty",
            source.path
        )]
    }
}

fn one_way(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    for (folder, barred, reason) in ONE_WAY {
        if !source.path.starts_with(folder) {
            continue;
        }
        for (line, code) in source.code() {
            for path in barred.iter().filter(|path| names(code, path)) {
                findings.push(format!("{}:{line}: names {path}: {reason}", source.path));
            }
        }
    }
    findings
}

fn only_syscall_is_unsafe(source: &Source) -> Vec<String> {
    if source.path.starts_with("crates/syscall/") {
        return Vec::new();
    }
    source
        .code()
        .filter(|(_, code)| names(code, UNSAFE))
        .map(|(line, _)| format!("{}:{line}: {UNSAFE} belongs in crates/syscall", source.path))
        .collect()
}

/// Whether `path` stands in `code` with no identifier running on before or after it.
fn names(code: &str, path: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(path).any(|(at, _)| {
        let before = code.get(..at).and_then(|s| s.chars().next_back());
        let after = code.get(at + path.len()..).and_then(|s| s.chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn the_repository_is_tidy() {
        if let Err(findings) = check(&crate::root()) {
            panic!("\n{}", findings.join("\n"));
        }
    }

    #[test]
    fn sizes() {
        let code = |lines: usize| "x\n".repeat(lines);
        let tested = |lines, tests: usize| code(lines) + "#[cfg(test)]\n" + &code(tests);
        for (path, text, fine) in [
            ("crates/a.rs", code(500), true),
            ("crates/a.rs", code(501), false),
            ("crates/a.rs", tested(400, 399), true),
            ("crates/a.rs", tested(400, 400), false),
            ("crates/a/tests.rs", code(800), true),
            ("crates/a/tests.rs", code(801), false),
        ] {
            assert_eq!(
                size(&source(path, &text)).is_empty(),
                fine,
                "{path} {}",
                text.len()
            );
        }
    }

    #[test]
    fn names_without_a_duty() {
        assert_eq!(name(&source("crates/host/src/utils.rs", "")).len(), 1);
        assert_eq!(name(&source("crates/host/src/common/mod.rs", "")).len(), 1);
        assert!(name(&source("crates/host/src/fs/stat.rs", "")).is_empty());
    }

    #[test]
    fn uses_go_one_way() {
        let runtime = "crates/host/src/runtimes/docker/mod.rs";
        assert_eq!(
            one_way(&source(runtime, "use crate::measure::Side;\n")).len(),
            1
        );
        assert!(
            one_way(&source(
                runtime,
                "use crate::layers::Layer; // not crate::measure\n"
            ))
            .is_empty()
        );
        assert!(one_way(&source(runtime, "use crate::measured::X;\n")).is_empty());
        assert_eq!(
            one_way(&source(
                "crates/host/src/measure/walk.rs",
                "crate::runtimes::X"
            ))
            .len(),
            1
        );
        assert_eq!(
            one_way(&source("crates/core/src/lib.rs", "use plimsoll_host::fs;")).len(),
            1
        );
    }

    #[test]
    fn where_unsafe_may_stand() {
        let text = format!("{UNSAFE} {{ f() }}");
        assert_eq!(
            only_syscall_is_unsafe(&source("crates/host/src/fs/dir.rs", &text)).len(),
            1
        );
        assert!(only_syscall_is_unsafe(&source("crates/syscall/src/btrfs.rs", &text)).is_empty());
        let lint = format!("#![forbid({UNSAFE}_code)]");
        assert!(only_syscall_is_unsafe(&source("crates/host/src/lib.rs", &lint)).is_empty());
    }

    #[test]
    fn each_file_says_its_duty() {
        assert_eq!(module_doc(&source("a.rs", "use x;\n")).len(), 1);
        assert!(module_doc(&source("a.rs", "//! Does x.\n")).is_empty());
    }
}
