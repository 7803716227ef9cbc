//! What the tests saw, put together.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Everything that the page is made from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// What it was found with: the kernel and the runtimes.
    #[serde(default)]
    pub(crate) versions: BTreeSet<String>,
    pub(crate) places: Vec<Place>,
    pub(crate) accesses: Vec<String>,
    pub(crate) states: Vec<String>,
    pub(crate) untested: Vec<Untested>,
    #[serde(default)]
    pub(crate) told: BTreeSet<Cell>,
}

/// A runtime with a storage driver.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) id: String,
    pub(crate) runtime: String,
    pub(crate) driver: String,
    pub(crate) engine: String,
}

/// What is not tested, and why; an empty list is everything.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Untested {
    places: Vec<String>,
    accesses: Vec<String>,
    states: Vec<String>,
    pub(crate) why: String,
}

/// One look at a container, whose changes were told exactly.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) place: String,
    pub(crate) access: String,
    pub(crate) state: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

impl Results {
    /// Puts together what tests wrote into `dir`.
    pub(crate) fn collect(dir: &Path) -> Result<Self, Vec<String>> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read_to_string(&path)
                .map_err(|error| vec![format!("{}: {error}", path.display())])
        };
        let mut results: Self = parse(&read("outline.json")?)?;
        let ids: Vec<String> = results
            .places
            .iter()
            .map(|place| place.id.clone())
            .collect();
        for id in ids {
            let file = format!("{id}.jsonl");
            // A place that no test has been to has none, and a reason.
            if dir.join(&file).exists() {
                for line in read(&file)?.lines() {
                    results.told.insert(parse(line)?);
                }
            }
        }
        results.versions.insert(crate::kernel());
        for line in read("versions.jsonl")?.lines() {
            let Version { version } = parse(line)?;
            results.versions.insert(version);
        }
        match results.open() {
            open if open.is_empty() => Ok(results),
            open => Err(open),
        }
    }

    /// Reads committed results.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<String>> {
        parse(text)
    }

    /// Returns the results as they are committed.
    pub(crate) fn to_text(&self) -> Result<String, Vec<String>> {
        serde_json::to_string_pretty(self)
            .map(|text| text + "\n")
            .map_err(|error| vec![error.to_string()])
    }

    /// Whether the changes were told exactly in this cell.
    pub(crate) fn is_told(&self, cell: &Cell) -> bool {
        self.told.contains(cell)
    }

    /// Returns the reason why a cell is not tested, and its number, where there is one.
    pub(crate) fn reason(&self, cell: &Cell) -> Option<(usize, &Untested)> {
        let reasons = self.untested.iter().enumerate();
        reasons
            .filter(|(_, untested)| {
                let has = |list: &[String], one| list.is_empty() || list.contains(one);
                has(&untested.places, &cell.place)
                    && has(&untested.accesses, &cell.access)
                    && has(&untested.states, &cell.state)
            })
            .map(|(n, untested)| (n + 1, untested))
            .next()
    }

    /// Returns every cell.
    pub(crate) fn cells(&self) -> impl Iterator<Item = Cell> {
        self.places.iter().flat_map(move |place| {
            self.accesses.iter().flat_map(move |access| {
                self.states.iter().map(move |state| Cell {
                    place: place.id.clone(),
                    access: access.clone(),
                    state: state.clone(),
                })
            })
        })
    }

    /// Returns the cells of which nothing is known, and those that are tested although a reason says
    /// that they are not, a line each.
    pub(crate) fn open(&self) -> Vec<String> {
        self.cells()
            .filter_map(|cell| {
                let what = match (self.is_told(&cell), self.reason(&cell)) {
                    (false, None) => "no result, and no reason why not",
                    (true, Some(_)) => "a result, and a reason why not",
                    _ => return None,
                };
                let Cell {
                    place,
                    access,
                    state,
                } = cell;
                Some(format!("{place}, {state}, {access}: {what}"))
            })
            .collect()
    }
}

fn parse<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, Vec<String>> {
    serde_json::from_str(text).map_err(|error| vec![error.to_string()])
}
