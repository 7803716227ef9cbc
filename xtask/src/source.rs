//! The Rust files of the repository.

use std::path::{Path, PathBuf};

/// One Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its path from the top of the repository, with `/`.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
}

impl Source {
    /// Returns each line's number, from 1, and its text without what follows `//`.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| {
            let code = line.split_once("//").map_or(line, |(code, _)| code);
            (index + 1, code)
        })
    }

    /// Whether the whole file is tests.
    pub(crate) fn is_tests(&self) -> bool {
        self.path.ends_with("/tests.rs")
            || self
                .path
                .split('/')
                .any(|part| part == "tests" || part == "e2e")
    }
}

/// Reads every Rust file of the repository at `root`, sorted by path.
pub(crate) fn all(root: &Path) -> Result<Vec<Source>, Vec<String>> {
    let mut sources = Vec::new();
    let mut pending: Vec<PathBuf> = ["crates", "e2e", "xtask", "bench", "fuzz"]
        .iter()
        .map(|top| root.join(top))
        .filter(|top| top.is_dir())
        .collect();
    while let Some(directory) = pending.pop() {
        let failed = |error: std::io::Error| vec![format!("{}: {error}", directory.display())];
        for entry in std::fs::read_dir(&directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    pending.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).map_err(failed)?;
                let path = path
                    .strip_prefix(root)
                    .unwrap_or(&path)
                    .display()
                    .to_string();
                sources.push(Source { path, text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}
