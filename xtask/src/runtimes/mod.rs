//! The page of runtimes: which were looked at, with which storage driver, in which state and how, as the
//! tests say.
//!
//! A test that saw the exact changes of a container writes a line of JSON into a directory. Here these
//! lines become `docs/reference/runtimes.json`, and that becomes `docs/reference/runtimes.md`.

mod page;
mod results;

use std::path::Path;
use std::process::Command;

use results::Results;

const RESULTS: &str = "docs/reference/runtimes.json";
const PAGE: &str = "docs/reference/runtimes.md";

/// The tests that look at containers of runtimes.
const TESTS: &[&str] = &[
    "docker_states",
    "docker_snapshots",
    "containerd_states",
    "containerd_pods",
    "podman_states",
    "podman_hostile",
    "podman_rootless",
    "runtimes_page",
];

/// Runs the tests and writes results and page.
pub(crate) fn make(root: &Path) -> Result<(), Vec<String>> {
    let dir = root.join("target/runtimes");
    let failed = |error: std::io::Error| vec![format!("{}: {error}", dir.display())];
    if dir.exists() {
        std::fs::remove_dir_all(&dir).map_err(failed)?;
    }
    std::fs::create_dir_all(&dir).map_err(failed)?;
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(root)
        .args(["test", "--locked", "--package", "plimsoll-e2e"])
        .env("PLIMSOLL_MATRIX_DIR", &dir)
        // A cell that is skipped is no result.
        .env("CI", "true");
    for test in TESTS {
        command.args(["--test", test]);
    }
    let status = command
        .status()
        .map_err(|error| vec![format!("cargo: {error}")])?;
    if !status.success() {
        return Err(vec![format!("the tests failed: {status}")]);
    }
    collect(root, &dir)
}

/// Writes results and page from what tests wrote into `dir`.
pub(crate) fn collect(root: &Path, dir: &Path) -> Result<(), Vec<String>> {
    let results = Results::collect(dir)?;
    let failed = |error: std::io::Error| vec![error.to_string()];
    std::fs::write(root.join(RESULTS), results.to_text()?).map_err(failed)?;
    std::fs::write(root.join(PAGE), page::render(&results)).map_err(failed)
}

/// Fails when the committed page is not that of the committed results, or when these leave a cell open.
pub(crate) fn check(root: &Path) -> Result<(), Vec<String>> {
    let read = |place: &str| {
        std::fs::read_to_string(root.join(place)).map_err(|error| vec![format!("{place}: {error}")])
    };
    let results = Results::parse(&read(RESULTS)?)?;
    let mut findings = results.open();
    if page::render(&results) != read(PAGE)? {
        findings.push(format!("{PAGE} is stale: run make runtimes"));
    }
    if findings.is_empty() {
        Ok(())
    } else {
        Err(findings)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_page_is_current() {
        super::check(&crate::root()).unwrap();
    }
}
