//! The page, from the results.

use std::fmt::Write as _;

use super::results::{Cell, Place, Results};

const HEAD: &str = "\
<!-- Made by `make runtimes` from what the tests found. Not written by hand. -->
# Runtimes

Which containers are found, and in which of their states the changes were told exactly, by tests with the real runtime on this kernel: the same edits, and the same answer in each cell.

- **live**: on its machine, while its runtime is there to be asked;
- **daemon dead**: on its machine, by the files of a runtime of which no daemon runs;
- **offline**: by a disk that is mounted elsewhere (`--root`): no daemon and no process.

A number stands for the reason why a cell is not tested.
";

/// Returns the page.
pub(crate) fn render(results: &Results) -> String {
    let mut page = String::from(HEAD);
    let versions: Vec<&str> = results.versions.iter().map(String::as_str).collect();
    let told = results.cells().filter(|cell| results.is_told(cell)).count();
    let mut write = |text: std::fmt::Arguments<'_>| {
        let _infallible = page.write_fmt(text);
    };
    write(format_args!(
        "\nFound with {}. {told} of {} cells are tested.\n\n",
        versions.join(", "),
        results.cells().count(),
    ));
    write(format_args!(
        "| Runtime | Storage driver | Engine | |{}\n",
        cells(results.states.iter().cloned())
    ));
    let rules = results.states.iter().map(|_| ":-:".to_owned());
    write(format_args!("|---|---|---|---|{}\n", cells(rules)));
    for place in &results.places {
        for access in &results.accesses {
            write(format_args!("{}\n", row(results, place, access)));
        }
    }
    if !results.untested.is_empty() {
        write(format_args!("\n## Not tested\n\n"));
    }
    for (n, untested) in results.untested.iter().enumerate() {
        write(format_args!("{}. {}\n", n + 1, untested.why));
    }
    page
}

fn row(results: &Results, place: &Place, access: &str) -> String {
    let first = results
        .accesses
        .first()
        .is_some_and(|first| first == access);
    let heads = match first {
        true => [&*place.runtime, &*place.driver, &*place.engine],
        false => ["", "", ""],
    };
    let marks = results.states.iter().map(|state| {
        let cell = Cell {
            place: place.id.clone(),
            access: access.to_owned(),
            state: state.clone(),
        };
        match results.reason(&cell) {
            None if results.is_told(&cell) => "✓".to_owned(),
            None => "?".to_owned(),
            Some((number, _)) => number.to_string(),
        }
    });
    format!("| {} | {access} |{}", heads.join(" | "), cells(marks))
}

fn cells(words: impl Iterator<Item = String>) -> String {
    words.map(|word| format!(" {word} |")).collect()
}
