//! The page, from the results.

use std::fmt::Write as _;

use crate::goals::{Goal, Limit, goals};
use crate::plan::LARGE;
use crate::results::{Cell, Place, Results};
use crate::text::{spread, thousands, three, time, wrong};
use crate::tool::{About, Role, TOOLS};

const HEAD: &str = "\
<!-- Made by `make bench-page` from the last file in bench/results. Not written by hand. -->
# Plimsoll beside its peers

The same containers, with the same changes, put to every tool that answers the question or a part of it; and the floor, the least that anything has to do. Each answer is held against what was really done.

![Time of each tool to find one changed file among 80,000](benchmark.svg)
";

const HOW: &str = "\
## How it is made

`sudo make bench-peers` on a Debian machine (`QUICK=1` for the small image and each tool once: whether it works, not how fast), then `make bench-page`. Everything is in [`bench/`](../../bench): the images are a Debian base filled up with generated files, loaded alike into Docker, Podman and containerd, each with a store of its own on a loop-mounted file system.

- **Changes** are spread over the image's files with a fixed seed: two thirds same-size edits of one byte, of which a third put the modification time back, then changed modes, deleted and added files. The only one of a single change is an edit with the time put back. For each ten changes one more file is rewritten with the bytes that it has, and does not differ. An image with fewer files than changes has as many changed as it has.
- **An answer** is wrong where it misses a path that differs or names one that does not. The directory above a change is nobody's error.
- **Times** are from fork to exit of the tool's process, its own start included; CPU time is that of its processes, memory that of the largest of them. What daemons do for `docker diff` and `ctr snapshots diff` is in the time and in neither of these. Tools take turns, each once in a round; the first run, which warms the caches, does not count unless it takes more than two seconds. A tool that takes long is run less often.
- **Tools of one table** took turns within seconds; those of different images were measured minutes apart, on a machine that may be faster or slower by a fifth meanwhile: what the start of a process (`plimsoll --version`) took there shows it. A ratio of two images has that in it.
- **The floors** are small C programs, static, and those of which most is the start have the C library that Plimsoll's static build has: on x86_64 musl. With glibc, which almost every peer has, each start takes some 0.3 ms more in such a virtual machine.
- **Tools that read everything** are asked about a second container with the same changes: on Btrfs the times of access that they leave renew the metadata that the others go by. `btrfs send` has a third one and rounds of its own: what its snapshots write would have to be committed by others.
- **Many containers in one run** were created and never started, one in ten of them has a change. **Files that only their content decides** have all been written to, with the size and the time that they had: half of them with the same bytes, half with one other byte in the middle.
- **ext4** is mounted without barriers, for copying up syncs each file, and ten thousand of them take their time; nothing is measured that writes to it. Btrfs has the options that Debian gives it.
- **Stored digests and databases** are made before, of a container without changes; making them is not in the time.
";

/// Returns the page.
pub(crate) fn render(results: &Results) -> String {
    let mut page = String::from(HEAD);
    page += &format!(
        "\nMeasured on {} with {}, {}, {} processors. Raw samples: [`bench/results`](../../bench/results).\n",
        results.date,
        results.host.get("kernel").map_or("?", String::as_str),
        results.host.get("processor").map_or("?", String::as_str),
        results.host.get("processors").map_or("?", String::as_str),
    );
    page += &goal_table(&goals(results));
    page += &answers(results);
    for driver in ["overlay2", "btrfs"] {
        page += &tables(results, driver);
    }
    page += &notes();
    page += &images(results);
    page += &left_out(results);
    page += &made_with(results);
    page.push('\n');
    page += HOW;
    page
}

fn place(driver: &str, image: &str, changes: usize, state: &str, cache: &str) -> Place {
    Place {
        driver: driver.into(),
        image: image.into(),
        changes,
        state: state.into(),
        cache: cache.into(),
    }
}

fn goal_table(goals: &[Goal]) -> String {
    let mut out = String::from(
        "\n## Goals\n\nRatios of medians, within this run.\n\n| Goal | Driver | Line | Measured | |\n|---|---|---:|---:|---|\n",
    );
    for goal in goals {
        let (sign, limit) = match goal.limit {
            Limit::Most(limit) => ("≤", limit),
            Limit::Least(limit) => ("≥", limit),
        };
        let limit = if limit >= 100.0 {
            thousands(limit as u64)
        } else {
            limit.to_string()
        };
        let measured = goal
            .measured
            .map_or("–".into(), |m| format!("{}{}", three(m), goal.unit));
        let holds = match goal.holds() {
            Some(true) => "holds",
            Some(false) => "**does not hold**",
            None => "not measured",
        };
        let _infallible = writeln!(
            out,
            "| {} | {} | {sign} {limit}{} | {measured} | {holds} |",
            goal.what, goal.driver, goal.unit
        );
    }
    out
}

/// The image and count of changes at which answers are told: the large one, or what there is.
fn answers(results: &Results) -> String {
    let mut out = String::from("\n## What each gets wrong\n");
    for driver in ["overlay2", "btrfs"] {
        let place = place(driver, LARGE.name, 100, "running", "warm");
        let rows: Vec<String> = TOOLS
            .iter()
            .filter_map(|about| {
                let cell = results.cell(&place, about.tool)?;
                let answer = cell.answer.as_ref()?;
                Some(format!("| {} | {} |\n", about.label, wrong(answer)))
            })
            .collect();
        if !rows.is_empty() {
            let _infallible = write!(
                out,
                "\n### {driver}, 100 changes and 10 files rewritten with the same bytes, among {}\n\n| Tool | Wrong |\n|---|---|\n{}",
                files(results),
                rows.concat()
            );
        }
    }
    let own = results
        .cells
        .iter()
        .filter(|cell| cell.tool == "plimsoll" || cell.tool == "plimsoll-socket");
    let answered: Vec<&Cell> = own.filter(|cell| cell.answer.is_some()).collect();
    let exact = |cell: &&&Cell| cell.answer.as_ref().is_some_and(|answer| answer.is_exact());
    let _infallible = write!(
        out,
        "\n`plimsoll check` was exact in {} of the {} places in which it was asked, in every state of a container.\n",
        answered.iter().filter(exact).count(),
        answered.len()
    );
    out
}

fn files(results: &Results) -> String {
    let image = results.images.iter().find(|image| image.name == LARGE.name);
    image.map_or("?".into(), |image| thousands(image.files))
}

fn tables(results: &Results, driver: &str) -> String {
    let mut out = format!("\n## Times, {driver}\n");
    let one = place(driver, LARGE.name, 1, "running", "warm");
    let rows = rows(|about| {
        let cell = results.cell(&one, about.tool)?;
        Some(vec![
            spread(cell),
            time(cell.processor()),
            format!("{:.1}", cell.peak() as f64 / 1024.0),
        ])
    });
    if !rows.is_empty() {
        let _infallible = write!(
            out,
            "\n### 1 changed of {}, running: median, least and most\n\n| Tool | Wall | CPU | Peak MiB |\n|---|---:|---:|---:|\n{rows}",
            files(results)
        );
    }
    for image in &results.images {
        out += &by_changes(results, driver, &image.name, image.files);
    }
    out += &by_state(results, driver);
    out += &cold(results, driver);
    out
}

/// A row for each tool for which there is something to say.
fn rows(columns: impl Fn(&About) -> Option<Vec<String>>) -> String {
    let rows = TOOLS.iter().filter_map(|about| {
        let columns = columns(about)?;
        let label = match about.role {
            Role::Plimsoll => format!("**{}**", about.label),
            Role::Peer => about.label.to_owned(),
            Role::Floor => format!("*{}*", about.label),
        };
        Some(format!("| {label} | {} |\n", columns.join(" | ")))
    });
    rows.collect()
}

fn by_changes(results: &Results, driver: &str, image: &str, files: u64) -> String {
    let at = |changes| place(driver, image, changes, "running", "warm");
    let mut counts: Vec<usize> = results
        .cells
        .iter()
        .filter(|cell| cell.place == at(cell.place.changes))
        .map(|cell| cell.place.changes)
        .collect();
    counts.sort_unstable();
    counts.dedup();
    if counts.is_empty() {
        return String::new();
    }
    let rows = rows(|about| {
        let cells: Vec<_> = counts
            .iter()
            .map(|n| results.cell(&at(*n), about.tool))
            .collect();
        cells.iter().any(Option::is_some).then(|| {
            let median =
                |cell: &Option<&Cell>| cell.map_or("–".into(), |cell| time(cell.median()));
            cells.iter().map(median).collect()
        })
    });
    let heads: Vec<String> = counts
        .iter()
        .map(|count| {
            // Fewer where the image has fewer.
            let own = results
                .cell(&at(*count), "plimsoll")
                .and_then(|cell| cell.answer.as_ref());
            let differ = own.map_or(*count, |answer| answer.differ);
            thousands(differ as u64)
        })
        .collect();
    format!(
        "\n### {image}: {} files, running, by the number of changes\n\n| Tool | {} |\n|---|{}\n{rows}",
        thousands(files),
        heads.join(" | "),
        "---:|".repeat(heads.len())
    )
}

fn by_state(results: &Results, driver: &str) -> String {
    const STATES: [&str; 3] = ["running", "paused", "stopped"];
    let at = |state| place(driver, LARGE.name, 100, state, "warm");
    let rows = rows(|about| {
        let cells = STATES.map(|state| results.cell(&at(state), about.tool));
        cells[1].is_some().then(|| {
            let median =
                |cell: Option<&Cell>| cell.map_or("–".into(), |cell| time(cell.median()));
            cells.map(median).to_vec()
        })
    });
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "\n### By state: 100 changed of {}\n\n| Tool | Running | Paused | Stopped |\n|---|---:|---:|---:|\n{rows}",
        files(results)
    )
}

fn cold(results: &Results, driver: &str) -> String {
    let rows = rows(|about| {
        let at = |cache| place(driver, LARGE.name, 1, "running", cache);
        let cold = results.cell(&at("cold"), about.tool)?;
        let warm = results.cell(&at("warm"), about.tool)?;
        Some(vec![time(warm.median()), spread(cold)])
    });
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "\n### Empty caches: 1 changed of {}\n\n| Tool | Warm | Cold |\n|---|---:|---:|\n{rows}",
        files(results)
    )
}

fn notes() -> String {
    let rows = rows(|about| Some(vec![about.note.to_owned()]));
    format!("\n## What each goes by\n\n| Tool | |\n|---|---|\n{rows}")
}

fn images(results: &Results) -> String {
    let mut out = String::from(
        "\n## Images\n\n| Name | Regular files | MiB | Directories | Symbolic links | Layers |\n|---|---:|---:|---:|---:|---:|\n",
    );
    for image in &results.images {
        let _infallible = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} |",
            image.name,
            thousands(image.files),
            thousands(image.bytes >> 20),
            thousands(image.directories),
            thousands(image.symlinks),
            image.layers
        );
    }
    out
}

fn left_out(results: &Results) -> String {
    let lines: Vec<String> = results
        .left_out
        .iter()
        .map(|line| format!("- {line}\n"))
        .collect();
    format!("\n## Not measured in this run\n\n{}", lines.concat())
}

fn made_with(results: &Results) -> String {
    let mut out = String::from("\n## Machine, versions, commands\n\n| | |\n|---|---|\n");
    for (name, value) in results.host.iter().chain(&results.versions) {
        let _infallible = writeln!(out, "| {name} | {value} |");
    }
    out += "\nOne command line of each tool, as it was run:\n\n```\n";
    for about in TOOLS {
        if let Some(command) = results.commands.get(about.tool) {
            let _infallible = writeln!(out, "{:<20}{command}", about.tool);
        }
    }
    out += "```\n";
    out
}
