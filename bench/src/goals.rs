//! What was set out to be reached, held against what was measured in the same run.

use crate::plan::LARGE;
use crate::results::{Cell, Place, Results};
use crate::scenarios::{CONTENTS, MANY};

/// One goal on one driver.
#[derive(Debug, Clone)]
pub(crate) struct Goal {
    /// What is compared.
    pub(crate) what: String,
    /// The storage driver.
    pub(crate) driver: &'static str,
    /// What was measured; none when the run does not have it.
    pub(crate) measured: Option<f64>,
    /// Where the line is.
    pub(crate) limit: Limit,
    /// What the numbers are.
    pub(crate) unit: &'static str,
}

/// A line that must not be crossed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Limit {
    /// At most this.
    Most(f64),
    /// At least this.
    Least(f64),
}

impl Goal {
    /// Whether it is reached; none when it was not measured.
    pub(crate) fn holds(&self) -> Option<bool> {
        let measured = self.measured?;
        Some(match self.limit {
            Limit::Most(limit) => measured <= limit,
            Limit::Least(limit) => measured >= limit,
        })
    }
}

const OVERLAY: &str = "overlay2";
const BTRFS: &str = "btrfs";
const DRIVERS: [&str; 2] = [OVERLAY, BTRFS];

/// Returns every goal.
pub(crate) fn goals(results: &Results) -> Vec<Goal> {
    let run = Run(results);
    let mut goals = Vec::new();
    run.floor(&mut goals);
    run.peers(&mut goals);
    run.growth(&mut goals);
    run.scenarios(&mut goals);
    goals
}

/// The floor that belongs to a driver.
pub(crate) fn floor_of(driver: &str) -> &'static str {
    if driver == BTRFS {
        "floor-btrfs"
    } else {
        "floor-overlay"
    }
}

struct Run<'a>(&'a Results);

impl Run<'_> {
    fn cell(&self, driver: &str, image: &str, changes: usize, tool: &str) -> Option<&Cell> {
        let state = if image == MANY { "created" } else { "running" };
        let place = Place {
            driver: driver.into(),
            image: image.into(),
            changes,
            state: state.into(),
            cache: "warm".into(),
        };
        self.0.cell(&place, tool)
    }

    /// Milliseconds of a tool at the large image.
    fn large(&self, driver: &str, changes: usize, tool: &str) -> Option<f64> {
        Some(self.cell(driver, LARGE.name, changes, tool)?.median() / 1000.0)
    }

    fn floor(&self, goals: &mut Vec<Goal>) {
        for driver in DRIVERS {
            for changes in [0, 1] {
                let own = self.large(driver, changes, "plimsoll");
                let floor = self.large(driver, changes, floor_of(driver));
                goals.push(Goal {
                    what: format!("`plimsoll check` to the floor, {changes} changed of 80,000"),
                    driver,
                    measured: ratio(own, floor),
                    limit: Limit::Most(1.5),
                    unit: "×",
                });
            }
        }
    }

    fn peers(&self, goals: &mut Vec<Goal>) {
        for (tool, name, driver, least) in [
            ("docker-diff", "`docker diff`", OVERLAY, 3000.0),
            ("docker-diff", "`docker diff`", BTRFS, 900.0),
            ("b3sum-2", "BLAKE3 over the tree", OVERLAY, 2000.0),
            ("b3sum-2", "BLAKE3 over the tree", BTRFS, 400.0),
            ("podman-diff", "`podman diff`", OVERLAY, 20.0),
            ("find-upper", "`find UPPER`", OVERLAY, 2.0),
            (
                "btrfs-send",
                "snapshot and `btrfs send --no-data`",
                BTRFS,
                2.0,
            ),
        ] {
            goals.push(Goal {
                what: format!("{name} to `plimsoll check`, 1 changed of 80,000"),
                driver,
                measured: ratio(
                    self.large(driver, 1, tool),
                    self.large(driver, 1, "plimsoll"),
                ),
                limit: Limit::Least(least),
                unit: "×",
            });
        }
        for driver in DRIVERS {
            let by_disk = self.large(driver, 1, "plimsoll");
            let by_socket = self.large(driver, 1, "plimsoll-socket");
            let more = by_socket.zip(by_disk).map(|(socket, disk)| socket - disk);
            goals.push(Goal {
                what: "asking the daemon: what it costs more, in bare GETs".into(),
                driver,
                measured: ratio(more, self.large(driver, 1, "get-bare")),
                limit: Limit::Most(1.0),
                unit: "×",
            });
        }
    }

    fn growth(&self, goals: &mut Vec<Goal>) {
        for driver in DRIVERS {
            for changes in [1, 100] {
                let tenth = self
                    .cell(driver, "tenth", changes, "plimsoll")
                    .map(Cell::median);
                let large = self
                    .cell(driver, LARGE.name, changes, "plimsoll")
                    .map(Cell::median);
                goals.push(Goal {
                    what: format!("an image of ten times the files, {changes} changed"),
                    driver,
                    measured: ratio(large, tenth),
                    limit: Limit::Most(1.1),
                    unit: "×",
                });
            }
            for (from, to) in [(100, 1_000), (1_000, 10_000)] {
                let (few, many) = (
                    self.large(driver, from, "plimsoll"),
                    self.large(driver, to, "plimsoll"),
                );
                goals.push(Goal {
                    what: format!("ten times the changes, {from} to {to} of 80,000"),
                    driver,
                    measured: ratio(many, few),
                    limit: Limit::Most(11.0),
                    unit: "×",
                });
            }
        }
    }

    fn scenarios(&self, goals: &mut Vec<Goal>) {
        for driver in DRIVERS {
            let many = |tool: &str| self.named(driver, MANY, tool);
            let count = self.count(MANY);
            goals.push(Goal {
                what: format!("{count} containers in one run, to the floor over the same"),
                driver,
                measured: ratio(
                    many("plimsoll").map(Cell::median),
                    many(floor_of(driver)).map(Cell::median),
                ),
                limit: Limit::Most(2.0),
                unit: "×",
            });
            goals.push(Goal {
                what: format!("peak memory of that run over {count} containers"),
                driver,
                measured: many("plimsoll").map(|cell| cell.peak() as f64 / 1024.0),
                limit: Limit::Most(32.0),
                unit: " MiB",
            });
            let contents = |tool: &str| self.named(driver, CONTENTS, tool).map(Cell::median);
            goals.push(Goal {
                what: format!(
                    "{} files that only their content decides, to comparing the same pairs",
                    self.count(CONTENTS)
                ),
                driver,
                measured: ratio(contents("plimsoll"), contents("floor-compare")),
                limit: Limit::Most(1.3),
                unit: "×",
            });
            let of_one = self.0.cells.iter().filter(|cell| {
                cell.tool == "plimsoll" && cell.place.driver == driver && cell.place.image != MANY
            });
            goals.push(Goal {
                what: "largest peak memory of `plimsoll check` of one container".into(),
                driver,
                measured: of_one
                    .map(Cell::peak)
                    .max()
                    .map(|peak| peak as f64 / 1024.0),
                limit: Limit::Most(8.0),
                unit: " MiB",
            });
        }
    }

    fn named(&self, driver: &str, image: &str, tool: &str) -> Option<&Cell> {
        let mut cells = self.0.cells.iter();
        cells.find(|cell| {
            cell.place.driver == driver && cell.place.image == image && cell.tool == tool
        })
    }

    /// How many there are in a scenario.
    fn count(&self, image: &str) -> usize {
        let mut cells = self.0.cells.iter();
        let found = cells.find(|cell| cell.place.image == image);
        found.map_or(0, |cell| cell.place.changes)
    }
}

fn ratio(of: Option<f64>, to: Option<f64>) -> Option<f64> {
    let (of, to) = of.zip(to)?;
    (to > 0.0).then(|| of / to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_neither_holds_nor_fails() {
        let goals = goals(&Results::default());
        assert!(goals.iter().all(|goal| goal.holds().is_none()));
    }

    #[test]
    fn lines() {
        let goal = |measured, limit| Goal {
            what: String::new(),
            driver: OVERLAY,
            measured: Some(measured),
            limit,
            unit: "×",
        };
        assert_eq!(goal(1.5, Limit::Most(1.5)).holds(), Some(true));
        assert_eq!(goal(1.6, Limit::Most(1.5)).holds(), Some(false));
        assert_eq!(goal(19.0, Limit::Least(20.0)).holds(), Some(false));
    }
}
