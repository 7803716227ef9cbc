//! The page, from the results.

use std::fmt::Write as _;

use super::cells::{self, Notes};
use super::places;
use super::results::{Column, Results, Scenario};

const HEAD: &str = "\
<!-- Made by `make conformance` from what the tests found. Not written by hand: see \"How it is made\". -->
# Conformance

One list of things that can be done to a container, done to each engine on each kind of file system and mount, and in real containers. After each of them both trees are read whole, by a program that shares no code with the engines (`e2e/src/brute.rs`): what this referee finds is what must be reported, neither less nor more. `docker diff` and `podman diff` are asked about the same containers.
";

const LEGEND: &str = "\
**Plimsoll** is right when it reports exactly what the referee finds: every path, its letter, which aspects of it differ, and nothing else. `✓ 7/16` means that the scenario can be done on 7 of the 16 mounts, and that the answer is exact on each of these; `–` that it cannot be done there at all (an `EXDEV`, a file system without reflinks); an empty cell that it makes no sense there.

In containers that fuse-overlayfs mounts some answers are less. `? gap`: what a process sees cannot be told from the layers, since the program shows a change of one of several names of a file by others too; what the layer holds is told, with a gap, so that the container is not called intact. `≈ later`: the program goes on showing something else until the container is started again, after which what was told is exactly what the referee finds. Where the program fails, or its tree cannot be read, it counts as not done.

**`docker diff` and `podman diff`** are judged by their own conventions: `C` of a directory above a change, `C` of a path that became another file type, one line for a deleted directory are all right. They do not say what differs, and are not asked to. `≈` stands for a `C` of something that is as the image has it, `✗` for a wrong answer; the small number says why.
";

const LIMITS: &str = "\
## What is not in this table

| What | Where it is tested |
|---|---|
| Mounts over paths of the image, code that runs and is in no file of it | `docker_bypass.rs` |
| Races of a check with what it looks at | `races.rs`, `docker_races.rs`, `btrfs_evasion.rs` |
| Trees made to wear a check down | `overlay_hostile.rs`, `btrfs_evasion.rs`, `bounds.rs` |
| Records of a runtime that are broken or lie | `docker_hostile.rs` |
| Random sequences of operations | `torture.rs` |
| What Plimsoll does not look at, or takes on trust | [LIMITS.md](../../LIMITS.md) |
";

const MAKING: &str = "\
## How it is made

`make conformance` (as root) runs the tests below and writes `conformance.json`, and this page from it. `make test` runs the same tests, fails when an answer of Plimsoll is not exact, and fails when the scenarios and columns here are not those of the code.

| What | Where |
|---|---|
| The scenarios | `e2e/src/operations/` |
| The referee | `e2e/src/brute.rs` |
| Overlay mounts and digests | `e2e/tests/overlay_operations.rs` |
| Btrfs subvolumes and digests | `e2e/tests/btrfs_operations.rs`, `btrfs_evasion.rs` |
| Docker, and each state of a container | `e2e/tests/conformance_docker.rs` |
| containerd | `e2e/tests/conformance_containerd.rs` |
| Podman | `e2e/tests/conformance_podman.rs` |
| How the other tools are judged | `e2e/src/told.rs` |

In containers the operations are done from the host, through the merged directory of the running container or in its subvolume: that is the file system that its processes write to. A container that was never started has nothing mounted with overlay2; its layers are mounted as `docker cp` does it. Plimsoll goes by Docker's data root and containerd's root alone and asks no daemon; in Podman's containers it goes by the overlay mount. The referee compares with a container of the same image in which nothing was done.

On overlay and Btrfs more is held than the table shows: each answer again after the overlay was unmounted and mounted, with `--confirm always`, of some paths alone, and with `--confirm never`, which may say more, as unconfirmed, and never less.
";

/// Returns the page.
pub(crate) fn render(results: &Results) -> String {
    let mut notes = Notes::default();
    let scenarios = scenarios(results, &mut notes);
    let mut page = String::from(HEAD);
    let _infallible = write!(
        page,
        "\nFound with {}. {} scenarios.\n\n",
        results.versions.join(", "),
        results.scenarios.len()
    );
    page += &summary(results);
    page += "\n## How to read it\n\n";
    page += LEGEND;
    page += &scenarios;
    page += "\n## Why\n\n";
    page += &notes.lines();
    page += &states(results);
    page += &mounts(results);
    page.push('\n');
    page += LIMITS;
    page.push('\n');
    page += MAKING;
    page
}

/// How often each mark stands in a column.
fn count(results: &Results, column: &Column, marks: &[&str]) -> usize {
    let cells = results
        .scenarios
        .iter()
        .filter_map(|s| s.cells.get(&column.id));
    cells
        .filter(|cell| marks.contains(&cell.mark.as_str()))
        .count()
}

fn summary(results: &Results) -> String {
    let mut out = String::from("## At a glance\n\n| Plimsoll | |\n|---|---|\n");
    for (part, title) in [
        ("overlay", "overlay, {} kinds of mount"),
        ("btrfs", "Btrfs, {} kinds of file system"),
        ("digest", "digest engine, on overlay and Btrfs"),
        ("container", "in Docker and Podman, {} storage drivers"),
        ("state", "in {} states of a container, overlay2 and Btrfs"),
    ] {
        let columns: Vec<&Column> = results.of_part(part).collect();
        let sum = |marks: &[&str]| -> usize {
            columns
                .iter()
                .map(|column| count(results, column, marks))
                .sum()
        };
        let title = title.replace("{}", &columns.len().to_string());
        let _infallible = writeln!(
            out,
            "| {title} | **{} of {} exact** |",
            sum(&["exact"]),
            sum(&["exact", "wrong", "gap", "later"]),
        );
    }
    out += "\nEach scenario counts once for each mount, file system, driver or state that it can be done on.\n\n";
    out += "| | Scenarios | of which change something | **✗ misses** | ✗ says what is not so | ✗ fails | ≈ same | ≈ times | ✓ |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    for column in results.of_part("tool") {
        let sum = |marks: &[&str]| count(results, column, marks);
        let done = |scenario: &&Scenario| cells::done(scenario, column).is_some();
        let changes = |scenario: &&Scenario| {
            let cell = cells::done(scenario, column);
            let expected = cell.and_then(|cell| scenario.expected.get(cell.expected));
            expected.is_some_and(|expected| !expected.is_empty())
        };
        let _infallible = writeln!(
            out,
            "| {} | {} | {} | **{}** | {} | {} | {} | {} | {} |",
            column.title,
            results.scenarios.iter().filter(done).count(),
            results.scenarios.iter().filter(changes).count(),
            sum(&["misses"]),
            sum(&["invents", "misnames"]),
            sum(&["fails"]),
            sum(&["unchanged"]),
            sum(&["times"]),
            sum(&["right"]),
        );
    }
    out
}

fn scenarios(results: &Results, notes: &mut Notes) -> String {
    let mut out = String::from("\n## Scenarios\n");
    let of = |part: &'static str| results.of_part(part).collect::<Vec<&Column>>();
    let (overlay, btrfs, digest, container) =
        (of("overlay"), of("btrfs"), of("digest"), of("container"));
    let tools = of("tool");
    let titles: Vec<&str> = tools.iter().map(|tool| tool.title.as_str()).collect();
    let head = format!(
        "| Scenario | What is done | Must be reported | Plimsoll: overlay | Btrfs | digest | in containers | {} |\n|---|---|---|---|---|---|---|{}\n",
        titles.join(" | "),
        "---|".repeat(tools.len())
    );
    for group in groups(results) {
        let rows: Vec<&Scenario> = results
            .scenarios
            .iter()
            .filter(|s| s.group == group)
            .collect();
        let _infallible = write!(out, "\n### {group}\n\n{head}");
        for scenario in &rows {
            let mut cells = vec![
                scenario.name.clone(),
                scenario.done.clone(),
                cells::expected(scenario),
                cells::engine(scenario, &overlay),
                cells::engine(scenario, &btrfs),
                cells::engine(scenario, &digest),
                cells::engine(scenario, &container),
            ];
            cells.extend(tools.iter().map(|tool| cells::tool(scenario, tool, notes)));
            let _infallible = writeln!(out, "| {} |", cells.join(" | "));
        }
        let mut elsewhere = String::new();
        for scenario in &rows {
            for (columns, outcome) in cells::elsewhere(results, scenario) {
                let _infallible = writeln!(
                    elsewhere,
                    "- *{}*: {outcome}. This is on {columns}.",
                    scenario.name
                );
            }
        }
        if !elsewhere.is_empty() {
            let _infallible = write!(out, "\nOther than above must be reported:\n\n{elsewhere}");
        }
    }
    out
}

fn groups(results: &Results) -> Vec<&str> {
    let mut groups: Vec<&str> = Vec::new();
    for scenario in &results.scenarios {
        if groups.last() != Some(&scenario.group.as_str()) {
            groups.push(&scenario.group);
        }
    }
    groups
}

fn states(results: &Results) -> String {
    let columns: Vec<&Column> = results.of_part("state").collect();
    let titles: Vec<&str> = columns.iter().map(|column| column.title.as_str()).collect();
    let mut out = format!(
        "\n## Each state of a container\n\nPlimsoll by Docker's data root, on overlay2 and on Btrfs; `✓` is both. The daemon is killed as by a power cut.\n\n| Scenario | {} |\n|---|{}\n",
        titles.join(" | "),
        "---|".repeat(columns.len())
    );
    for name in &results.states {
        for scenario in results.scenarios.iter().filter(|s| s.name == *name) {
            let cells: Vec<String> = columns
                .iter()
                .map(|column| cells::engine(scenario, &[column]))
                .collect();
            let _infallible = writeln!(out, "| {name} | {} |", cells.join(" | "));
        }
    }
    out
}

/// Each mount by itself, and what cannot be done on it.
fn mounts(results: &Results) -> String {
    let mut out = String::from(
        "\n## Each mount by itself\n\n| Plimsoll on | Exact | Wrong | Gap, or later | Cannot be done there |\n|---|--:|--:|--:|--:|\n",
    );
    let parts = ["overlay", "btrfs", "digest", "container"];
    let columns: Vec<&Column> = parts
        .iter()
        .flat_map(|part| results.of_part(part))
        .collect();
    for column in &columns {
        let sum = |mark: &str| count(results, column, &[mark]);
        let _infallible = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            places::full_title(column),
            sum("exact"),
            sum("wrong"),
            sum("gap") + sum("later"),
            sum("impossible")
        );
    }
    out += "\n| Scenarios | |\n|---|---|\n";
    // Those that cannot be done in the same places stand together.
    let mut rows: Vec<(String, Vec<&str>)> = Vec::new();
    for scenario in &results.scenarios {
        let tried = |column: &Column| scenario.cells.contains_key(&column.id);
        let can = |column: &Column| cells::done(scenario, column).is_some();
        let cannot = |column: &Column| tried(column) && !can(column);
        let parts = ["overlay", "btrfs", "container"];
        let not = places::named(results, &parts, tried, cannot);
        if !not.is_empty() {
            let only = places::named(results, &parts, tried, can);
            let shorter = if only.len() < not.len() {
                format!("only on {only}")
            } else {
                format!("not on {not}")
            };
            match rows.iter_mut().find(|(places, _)| *places == shorter) {
                Some((_, names)) => names.push(&scenario.name),
                None => rows.push((shorter, vec![&scenario.name])),
            }
        }
    }
    for (places, names) in rows {
        let _infallible = writeln!(out, "| {} | {places} |", names.join(" · "));
    }
    out
}
