//! Pages that are made from what tests wrote down, and never by hand: the tests write lines of JSON into a
//! directory, these become a committed file of results, and that becomes the page.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One such page.
pub(crate) struct Generated<R> {
    /// What it is called: `make NAME` makes it, from what tests wrote into `target/NAME`.
    pub(crate) name: &'static str,
    /// The variable that tells the tests where to write.
    pub(crate) variable: &'static str,
    /// The tests that write.
    pub(crate) tests: &'static [&'static str],
    /// Puts together what they wrote.
    pub(crate) collect: fn(&Path) -> Result<R, Vec<String>>,
    /// Reads committed results.
    pub(crate) parse: fn(&str) -> Result<R, Vec<String>>,
    /// Returns the results as they are committed.
    pub(crate) to_text: fn(&R) -> Result<String, Vec<String>>,
    /// Returns the page.
    pub(crate) render: fn(&R) -> String,
    /// Returns what is wrong with results, a line each.
    pub(crate) wrong: fn(&R) -> Vec<String>,
}

impl<R> Generated<R> {
    /// Runs the tests and writes results and page.
    pub(crate) fn make(&self, root: &Path) -> Result<(), Vec<String>> {
        let dir = root.join("target").join(self.name);
        let failed = |error: std::io::Error| vec![format!("{}: {error}", dir.display())];
        if dir.exists() {
            std::fs::remove_dir_all(&dir).map_err(failed)?;
        }
        std::fs::create_dir_all(&dir).map_err(failed)?;
        let mut command = Command::new(env!("CARGO"));
        command
            .current_dir(root)
            .args(["test", "--locked", "--package", "plimsoll-e2e"])
            .env(self.variable, &dir)
            // What is skipped is no result.
            .env("CI", "true");
        for test in self.tests {
            command.args(["--test", test]);
        }
        let status = command
            .status()
            .map_err(|error| vec![format!("cargo: {error}")])?;
        if !status.success() {
            return Err(vec![format!("the tests failed: {status}")]);
        }
        self.from(root, &dir)
    }

    /// Writes results and page from what tests wrote into `dir`.
    pub(crate) fn from(&self, root: &Path, dir: &Path) -> Result<(), Vec<String>> {
        let results = (self.collect)(dir)?;
        let failed = |error: std::io::Error| vec![error.to_string()];
        std::fs::write(root.join(self.place("json")), (self.to_text)(&results)?).map_err(failed)?;
        std::fs::write(root.join(self.place("md")), (self.render)(&results)).map_err(failed)
    }

    /// Fails when the committed page is not that of the committed results, or something is wrong with
    /// these.
    pub(crate) fn check(&self, root: &Path) -> Result<(), Vec<String>> {
        let read = |place: PathBuf| {
            std::fs::read_to_string(root.join(&place))
                .map_err(|error| vec![format!("{}: {error}", place.display())])
        };
        let results = (self.parse)(&read(self.place("json"))?)?;
        let mut findings = (self.wrong)(&results);
        let page = self.place("md");
        if (self.render)(&results) != read(page.clone())? {
            let page = page.display();
            findings.push(format!("{page} is stale: run make {}", self.name));
        }
        if findings.is_empty() {
            Ok(())
        } else {
            Err(findings)
        }
    }

    /// Where results or page are committed.
    fn place(&self, extension: &str) -> PathBuf {
        let name = format!("{}.{extension}", self.name);
        Path::new("docs/reference").join(name)
    }
}
