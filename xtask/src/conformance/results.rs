//! What the tests found, put together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Everything that the page is made from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// What it was found with: the kernel and the runtimes.
    pub(crate) versions: Vec<String>,
    pub(crate) columns: Vec<Column>,
    /// The scenarios that containers in each state were put through.
    pub(crate) states: Vec<String>,
    pub(crate) scenarios: Vec<Scenario>,
}

/// One column: an engine or a tool, somewhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) part: String,
}

/// One row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Scenario {
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) done: String,
    /// Where it can be tried: `anywhere`, `btrfs`, `host`.
    pub(crate) needs: String,
    /// What the referee says, a list for each different outcome, in the order of the columns.
    #[serde(default)]
    pub(crate) expected: Vec<Vec<String>>,
    /// What came out, by column.
    #[serde(default)]
    pub(crate) cells: BTreeMap<String, Cell>,
}

/// What came out of one scenario in one column.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub(crate) struct Cell {
    /// One word: `exact`, `impossible`, `wrong` of an engine, and of one in a container `gap`, where it says
    /// that it cannot tell, and `later`, where it tells what is seen from the next start on; more of a tool.
    pub(crate) mark: String,
    /// Which of the scenario's outcomes was expected.
    pub(crate) expected: usize,
    pub(crate) found: Found,
}

/// A cell as it is written: most are one word.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Word(String),
    Whole {
        mark: String,
        #[serde(default, skip_serializing_if = "is_zero")]
        expected: usize,
        #[serde(flatten)]
        found: Found,
    },
}

impl From<Written> for Cell {
    fn from(written: Written) -> Self {
        match written {
            Written::Word(mark) => Self {
                mark,
                expected: 0,
                found: Found::default(),
            },
            Written::Whole {
                mark,
                expected,
                found,
            } => Self {
                mark,
                expected,
                found,
            },
        }
    }
}

impl From<Cell> for Written {
    fn from(cell: Cell) -> Self {
        if cell.expected == 0 && cell.found == Found::default() {
            return Self::Word(cell.mark);
        }
        Self::Whole {
            mark: cell.mark,
            expected: cell.expected,
            found: cell.found,
        }
    }
}

/// What is wrong with what a tool said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) missed: Vec<Missed>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) invented: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) misnamed: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unchanged: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) times: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failed: Option<String>,
}

/// A difference that a tool does not name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Missed {
    pub(crate) path: String,
    pub(crate) why: String,
}

/// A line that a test wrote.
#[derive(Deserialize)]
struct Line {
    column: String,
    scenario: String,
    expected: Vec<String>,
    mark: String,
    #[serde(flatten)]
    found: Found,
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Results {
    /// Puts together what tests wrote into `dir`.
    pub(crate) fn collect(dir: &Path) -> Result<Self, Vec<String>> {
        let read = |path: &Path| {
            std::fs::read_to_string(path)
                .map_err(|error| vec![format!("{}: {error}", path.display())])
        };
        let outline = read(&dir.join("outline.json"))?;
        let mut outline: serde_json::Value = parse(&outline)?;
        outline["versions"] = serde_json::json!([crate::kernel()]);
        let mut results: Self =
            serde_json::from_value(outline).map_err(|error| vec![error.to_string()])?;
        let mut versions = BTreeSet::new();
        for column in results.columns.clone() {
            let path = dir.join(format!("{}.jsonl", column.id));
            for line in read(&path)?.lines() {
                if let Ok(Version { version }) = serde_json::from_str(line) {
                    versions.insert(version);
                    continue;
                }
                let line: Line = parse(line)?;
                if line.column != column.id {
                    return Err(vec![format!("{}: of {}", path.display(), line.column)]);
                }
                results.add(line)?;
            }
        }
        results.versions.extend(versions);
        let missing = results.missing();
        if missing.is_empty() {
            Ok(results)
        } else {
            Err(missing)
        }
    }

    /// Reads committed results.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<String>> {
        parse(text)
    }

    /// Returns the results as they are committed: a scenario a line.
    pub(crate) fn to_text(&self) -> Result<String, Vec<String>> {
        fn line<T: Serialize>(value: &T) -> Result<String, Vec<String>> {
            serde_json::to_string(value).map_err(|error| vec![error.to_string()])
        }
        fn lines<T: Serialize>(values: &[T]) -> Result<String, Vec<String>> {
            let lines: Result<Vec<String>, _> = values.iter().map(line).collect();
            Ok(format!("[\n{}\n]", lines?.join(",\n")))
        }
        Ok(format!(
            "{{\"versions\":{},\n\"states\":{},\n\"columns\":{},\n\"scenarios\":{}}}\n",
            line(&self.versions)?,
            line(&self.states)?,
            lines(&self.columns)?,
            lines(&self.scenarios)?,
        ))
    }

    /// Returns the columns of these parts.
    pub(crate) fn of_part<'a>(&'a self, part: &'a str) -> impl Iterator<Item = &'a Column> {
        self.columns.iter().filter(move |c| c.part == part)
    }

    /// Returns where Plimsoll is wrong, a line each.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for scenario in &self.scenarios {
            for (column, cell) in &scenario.cells {
                if cell.mark == "wrong" {
                    wrong.push(format!("{}, {column}: wrong", scenario.name));
                }
            }
        }
        wrong
    }

    fn add(&mut self, line: Line) -> Result<(), Vec<String>> {
        let found = self.scenarios.iter_mut().find(|s| s.name == line.scenario);
        let scenario =
            found.ok_or_else(|| vec![format!("no scenario is called \"{}\"", line.scenario)])?;
        let known = scenario.expected.iter().position(|e| *e == line.expected);
        let expected = known.unwrap_or_else(|| {
            scenario.expected.push(line.expected);
            scenario.expected.len() - 1
        });
        let cell = Cell {
            mark: line.mark,
            expected,
            found: line.found,
        };
        // One column can have several: the digest engine runs on many file systems.
        let worse = |old: &Cell| rank(&cell.mark) > rank(&old.mark);
        if scenario.cells.get(&line.column).is_none_or(worse) {
            scenario.cells.insert(line.column, cell);
        }
        Ok(())
    }

    /// Returns which cells must be there and are not.
    fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for scenario in &self.scenarios {
            let of_states = self.states.contains(&scenario.name);
            for column in &self.columns {
                let wanted = match (column.part.as_str(), scenario.needs.as_str()) {
                    ("state", _) => of_states,
                    (_, "anywhere") => true,
                    ("btrfs" | "digest", "btrfs") => true,
                    ("container" | "tool", "btrfs") => column.id.ends_with("-btrfs"),
                    _ => false,
                };
                if wanted && !scenario.cells.contains_key(&column.id) {
                    missing.push(format!("{}, {}: no result", scenario.name, column.id));
                }
            }
            if scenario.cells.is_empty() {
                missing.push(format!("{}: no result at all", scenario.name));
            }
        }
        missing
    }
}

fn rank(mark: &str) -> usize {
    ["impossible", "exact", "later", "gap", "wrong"]
        .iter()
        .position(|known| *known == mark)
        .unwrap_or_default()
}

fn parse<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, Vec<String>> {
    serde_json::from_str(text).map_err(|error| vec![error.to_string()])
}
