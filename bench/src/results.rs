//! What a run found, as it is kept in the repository: every sample, and what they were taken with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::changes::Kind;

/// One run of the comparison.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Results {
    /// The day, as `date --iso-8601` gives it.
    pub(crate) date: String,
    /// The arguments that it was run with.
    pub(crate) arguments: Vec<String>,
    /// The machine.
    pub(crate) host: BTreeMap<String, String>,
    /// The version of each program.
    pub(crate) versions: BTreeMap<String, String>,
    /// The images as they came to be.
    pub(crate) images: Vec<ImageFacts>,
    /// One command line of each tool, as it was run.
    pub(crate) commands: BTreeMap<String, String>,
    /// What was not run, and why.
    pub(crate) left_out: Vec<String>,
    /// Each tool in each situation.
    pub(crate) cells: Vec<Cell>,
}

/// An image.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImageFacts {
    /// Its name.
    pub(crate) name: String,
    /// Its regular files.
    pub(crate) files: u64,
    /// Its directories, one counted once for each layer.
    pub(crate) directories: u64,
    /// Its symbolic links.
    pub(crate) symlinks: u64,
    /// The bytes of its regular files.
    pub(crate) bytes: u64,
    /// Its layers.
    pub(crate) layers: usize,
}

/// One tool in one situation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cell {
    /// What is looked at.
    #[serde(flatten)]
    pub(crate) place: Place,
    /// The tool.
    pub(crate) tool: String,
    /// Each run: wall, user and system time in microseconds, and peak resident memory in KiB.
    pub(crate) samples: Vec<Sample>,
    /// What it said, held against the truth; null for what is not asked which files differ.
    pub(crate) answer: Option<Answer>,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Place {
    /// `overlay2` or `btrfs`.
    pub(crate) driver: String,
    /// The image's name; or that of a scenario of its own.
    pub(crate) image: String,
    /// How many changes were asked for.
    pub(crate) changes: usize,
    /// `running`, `paused`, `stopped`, `created`.
    pub(crate) state: String,
    /// `warm` or `cold`.
    pub(crate) cache: String,
}

/// One run of a program: wall, user and system time in microseconds, peak resident memory in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sample(
    pub(crate) u64,
    pub(crate) u64,
    pub(crate) u64,
    pub(crate) u64,
);

/// How an answer stands to the truth.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    /// How many paths differ.
    pub(crate) differ: usize,
    /// Those of them that it did not name, by what was done to them.
    pub(crate) missed: BTreeMap<Kind, usize>,
    /// The paths that it named and that do not differ: those that were written to all the same.
    pub(crate) invented: BTreeMap<Kind, usize>,
    /// The paths that it named and that nobody touched.
    pub(crate) untouched: usize,
    /// Some of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) examples: Vec<String>,
}

impl Answer {
    pub(crate) fn missed(&self) -> usize {
        self.missed.values().sum()
    }

    pub(crate) fn invented(&self) -> usize {
        self.invented.values().sum::<usize>() + self.untouched
    }

    pub(crate) fn is_exact(&self) -> bool {
        self.missed() == 0 && self.invented() == 0
    }
}

impl Cell {
    /// Returns the median of the wall times, in microseconds.
    pub(crate) fn median(&self) -> f64 {
        median(self.samples.iter().map(|sample| sample.0).collect())
    }

    /// Returns the median of user and system time together, in microseconds.
    pub(crate) fn processor(&self) -> f64 {
        median(self.samples.iter().map(|s| s.1 + s.2).collect())
    }

    /// Returns the shortest and the longest wall time, in microseconds.
    pub(crate) fn range(&self) -> (u64, u64) {
        let walls = || self.samples.iter().map(|sample| sample.0);
        (walls().min().unwrap_or(0), walls().max().unwrap_or(0))
    }

    /// Returns the largest peak of memory, in KiB.
    pub(crate) fn peak(&self) -> u64 {
        self.samples
            .iter()
            .map(|sample| sample.3)
            .max()
            .unwrap_or(0)
    }
}

fn median(mut values: Vec<u64>) -> f64 {
    values.sort_unstable();
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[odd / 2] as f64,
        even => (values[even / 2 - 1] + values[even / 2]) as f64 / 2.0,
    }
}

impl Results {
    /// Returns the cell of a tool at a place.
    pub(crate) fn cell(&self, place: &Place, tool: &str) -> Option<&Cell> {
        let mut cells = self.cells.iter();
        cells.find(|cell| cell.place == *place && cell.tool == tool)
    }

    /// Returns the text that is committed: a line a cell, so that it can be read and compared.
    pub(crate) fn to_text(&self) -> String {
        let mut head = self.clone();
        let cells = std::mem::take(&mut head.cells);
        let head = serde_json::to_string_pretty(&head).expect("results");
        let head = head
            .strip_suffix("\"cells\": []\n}")
            .expect("cells come last");
        let cells: Vec<String> = cells
            .iter()
            .map(|cell| format!("    {}", serde_json::to_string(cell).expect("cell")))
            .collect();
        format!("{head}\"cells\": [\n{}\n  ]\n}}\n", cells.join(",\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_samples() {
        assert_eq!(median(vec![3, 1, 2]), 2.0);
        assert_eq!(median(vec![4, 1, 2, 3]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }

    #[test]
    fn the_text_can_be_read_again() {
        let results = Results {
            cells: vec![Cell {
                place: Place {
                    driver: "btrfs".into(),
                    image: "small".into(),
                    changes: 1,
                    state: "running".into(),
                    cache: "warm".into(),
                },
                tool: "aide".into(),
                samples: vec![Sample(1, 2, 3, 4)],
                answer: Some(Answer::default()),
            }],
            ..Results::default()
        };
        let again: Results = serde_json::from_str(&results.to_text()).unwrap();
        assert_eq!(again.cells[0].samples, results.cells[0].samples);
        assert_eq!(again.to_text(), results.to_text());
    }
}
