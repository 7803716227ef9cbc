//! The conformance page: what the tests found, scenario by scenario, as one page that is never written
//! by hand.
//!
//! The tests write a line of JSON for each scenario that they ran into a directory. Here these lines
//! become `docs/reference/conformance.json`, and that becomes `docs/reference/conformance.md`.

mod cells;
mod page;
mod places;
mod results;

use std::path::Path;
use std::process::Command;

use results::Results;

const RESULTS: &str = "docs/reference/conformance.json";
const PAGE: &str = "docs/reference/conformance.md";

/// The tests that run scenarios.
const TESTS: &[&str] = &[
    "overlay_operations",
    "btrfs_operations",
    "btrfs_evasion",
    "conformance_docker",
    "conformance_containerd",
    "conformance_podman",
    "conformance_page",
];

/// Runs the tests and writes results and page.
pub(crate) fn make(root: &Path) -> Result<(), Vec<String>> {
    let dir = root.join("target/conformance");
    let failed = |error: std::io::Error| vec![format!("{}: {error}", dir.display())];
    if dir.exists() {
        std::fs::remove_dir_all(&dir).map_err(failed)?;
    }
    std::fs::create_dir_all(&dir).map_err(failed)?;
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(root)
        .args(["test", "--locked", "--package", "plimsoll-e2e"])
        .env("PLIMSOLL_CONFORMANCE_DIR", &dir)
        // A column that is skipped is no result.
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

/// Fails when the committed page is not that of the committed results, or when one of these is wrong.
pub(crate) fn check(root: &Path) -> Result<(), Vec<String>> {
    let read = |place: &str| {
        std::fs::read_to_string(root.join(place)).map_err(|error| vec![format!("{place}: {error}")])
    };
    let results = Results::parse(&read(RESULTS)?)?;
    let mut findings = results.wrong();
    if page::render(&results) != read(PAGE)? {
        findings.push(format!("{PAGE} is stale: run make conformance"));
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
