//! Where what is made from the results stands, and whether it is theirs.

use std::path::{Path, PathBuf};

use crate::goals::goals;
use crate::plan::LARGE;
use crate::results::{Place, Results};
use crate::text::{time, wrong};
use crate::tool::{Role, TOOLS};
use crate::{page, plot};

const RESULTS: &str = "bench/results";
const README: &str = "README.md";
const BEGIN: &str = "<!-- benchmark: begin. Made by `make bench-page` -->\n";
const END: &str = "<!-- benchmark: end -->\n";

type Findings = Vec<String>;

/// Writes everything.
pub(crate) fn write(root: &Path) -> Result<(), Findings> {
    for (path, text) in made(root)? {
        std::fs::write(&path, text)
            .map_err(|error| vec![format!("{}: {error}", path.display())])?;
    }
    Ok(())
}

/// Fails when something is not what the results make.
pub(crate) fn check(root: &Path) -> Result<(), Findings> {
    let mut findings = Findings::new();
    for (path, text) in made(root)? {
        if std::fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            findings.push(format!("{} is stale: run make bench-page", path.display()));
        }
    }
    if findings.is_empty() {
        Ok(())
    } else {
        Err(findings)
    }
}

/// Returns the text of each file.
fn made(root: &Path) -> Result<Vec<(PathBuf, String)>, Findings> {
    let results = last(root)?;
    let readme = root.join(README);
    let text = read(&readme)?;
    Ok(vec![
        (
            root.join("docs/reference/benchmark.md"),
            page::render(&results),
        ),
        (
            root.join("docs/reference/benchmark.svg"),
            plot::render(&results),
        ),
        (readme, between(&text, &section(&results))?),
    ])
}

/// Reads the results whose name comes last: they begin with the date.
fn last(root: &Path) -> Result<Results, Findings> {
    let dir = root.join(RESULTS);
    let entries =
        std::fs::read_dir(&dir).map_err(|error| vec![format!("{}: {error}", dir.display())])?;
    let files = entries.flatten().map(|entry| entry.path());
    let last = files
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .max()
        .ok_or_else(|| {
            vec![format!(
                "no results in {}: run make bench-peers",
                dir.display()
            )]
        })?;
    serde_json::from_str(&read(&last)?)
        .map_err(|error| vec![format!("{}: {error}", last.display())])
}

fn read(path: &Path) -> Result<String, Findings> {
    std::fs::read_to_string(path).map_err(|error| vec![format!("{}: {error}", path.display())])
}

/// Puts a section between its marks.
fn between(text: &str, section: &str) -> Result<String, Findings> {
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) =
        parts.ok_or_else(|| vec![format!("{README} has not the two lines {BEGIN}{END}")])?;
    Ok(format!("{before}{BEGIN}{section}{END}{after}"))
}

/// The README's section.
fn section(results: &Results) -> String {
    let at = |driver: &str, changes| Place {
        driver: driver.into(),
        image: LARGE.name.into(),
        changes,
        state: "running".into(),
        cache: "warm".into(),
    };
    let mut out = String::from(
        "![Time of each tool to find one changed file among 80,000](docs/reference/benchmark.svg)\n\n\
         | One changed file among 80,000 | overlay2 | Btrfs | Wrong about 100 changes (overlay2; Btrfs) |\n|---|---:|---:|---|\n",
    );
    let shown = TOOLS.iter().filter(|about| {
        about.role != Role::Floor
            || about.tool.starts_with("floor-overlay")
            || about.tool == "floor-btrfs"
    });
    for about in shown {
        let cells = ["overlay2", "btrfs"].map(|driver| results.cell(&at(driver, 1), about.tool));
        if cells.iter().all(Option::is_none) {
            continue;
        }
        let [overlay, btrfs] =
            cells.map(|cell| cell.map_or("–".into(), |cell| time(cell.median())));
        let mut answers: Vec<String> = ["overlay2", "btrfs"]
            .iter()
            .filter_map(|driver| results.cell(&at(driver, 100), about.tool)?.answer.as_ref())
            .map(wrong)
            .collect();
        answers.dedup();
        let label = match about.role {
            Role::Plimsoll => format!("**{}**", about.label),
            _ => about.label.to_owned(),
        };
        out += &format!(
            "| {label} | {overlay} | {btrfs} | {} |\n",
            answers.join("; ")
        );
    }
    let goals = goals(results);
    let holding = goals
        .iter()
        .filter(|goal| goal.holds() == Some(true))
        .count();
    let measured = goals.iter().filter(|goal| goal.holds().is_some()).count();
    out += &format!(
        "\nMeasured on {} ({}, {} processors); {holding} of the {measured} goals that were measured hold. \
         [The benchmark's page](docs/reference/benchmark.md) has every goal, state and count of changes, what each \
         tool goes by, and how to run it yourself: `sudo make bench-peers`.\n",
        results.date,
        results.host.get("processor").map_or("?", String::as_str),
        results.host.get("processors").map_or("?", String::as_str),
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_committed_is_current() {
        check(&crate::root()).unwrap();
    }

    #[test]
    fn a_section_takes_the_place_of_the_one_before() {
        let text = format!("a\n{BEGIN}old\n{END}b\n");
        assert_eq!(
            between(&text, "new\n").unwrap(),
            format!("a\n{BEGIN}new\n{END}b\n")
        );
        assert!(between("a", "new").is_err());
    }
}
