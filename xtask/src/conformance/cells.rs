//! The words of one cell.

use super::places;
use super::results::{Cell, Column, Missed, Results, Scenario};

/// Longest path that is shown whole, in characters.
const SHOWN_PATH: usize = 40;
/// As many paths are shown of what must be reported.
const SHOWN_PATHS: usize = 3;

/// The explanations that cells refer to, numbered as they come.
#[derive(Debug, Default)]
pub(crate) struct Notes(Vec<String>);

impl Notes {
    fn number(&mut self, text: &str) -> usize {
        if let Some(at) = self.0.iter().position(|known| known == text) {
            return at + 1;
        }
        self.0.push(text.to_owned());
        self.0.len()
    }

    fn mark(&mut self, text: &str) -> String {
        format!("<sup>{}</sup>", self.number(text))
    }

    /// Returns them, a numbered line each.
    pub(crate) fn lines(&self) -> String {
        let lines = self.0.iter().enumerate();
        lines
            .map(|(n, text)| format!("{}. {text}\n", n + 1))
            .collect()
    }
}

/// Returns what must be reported, in few words.
pub(crate) fn expected(scenario: &Scenario) -> String {
    if scenario.needs == "host" && scenario.expected.len() > 1 {
        return "each step its own".to_owned();
    }
    outcome(scenario.expected.get(usual(scenario)))
}

/// Returns the outcomes other than the usual one, each with where it is.
pub(crate) fn elsewhere(results: &Results, scenario: &Scenario) -> Vec<(String, String)> {
    // The digest engine runs on several file systems, and states are those of two drivers.
    let parts = ["overlay", "btrfs"];
    let usual = usual(scenario);
    let outcomes = (0..scenario.expected.len()).filter(|at| *at != usual);
    outcomes
        .filter_map(|at| {
            let is_done = |column: &Column| done(scenario, column).is_some();
            let is_there =
                |column: &Column| done(scenario, column).is_some_and(|cell| cell.expected == at);
            let places = places::named(results, &parts, is_done, is_there);
            (!places.is_empty()).then(|| (places, outcome(scenario.expected.get(at))))
        })
        .collect()
}

/// Returns the mark of an engine over several columns.
pub(crate) fn engine(scenario: &Scenario, columns: &[&Column]) -> String {
    let cells: Vec<&Cell> = columns
        .iter()
        .filter_map(|column| scenario.cells.get(&column.id))
        .collect();
    let count = |mark: &str| cells.iter().filter(|cell| cell.mark == mark).count();
    let (exact, wrong) = (count("exact"), count("wrong"));
    let mark = if cells.is_empty() {
        String::new()
    } else if wrong > 0 {
        format!("**✗ wrong on {wrong}**")
    } else if exact == 0 {
        "–".to_owned()
    } else if exact == cells.len() {
        "✓".to_owned()
    } else {
        format!("✓ {exact}/{}", cells.len())
    };
    let untold = [("gap", "? gap"), ("later", "≈ later")];
    let untold = untold.into_iter().filter(|(mark, _)| count(mark) > 0);
    let marks = std::iter::once(mark).chain(untold.map(|(_, text)| text.to_owned()));
    marks.collect::<Vec<_>>().join(", ")
}

/// Returns what a tool did, and notes why.
pub(crate) fn tool(scenario: &Scenario, column: &Column, notes: &mut Notes) -> String {
    let Some(cell) = scenario.cells.get(&column.id) else {
        return String::new();
    };
    let podman = column.id.starts_with("podman");
    match cell.mark.as_str() {
        "impossible" => "–".to_owned(),
        "right" => "✓".to_owned(),
        "times" => format!("≈ times{}", notes.mark(TIMES)),
        "unchanged" => format!("≈ same{}", notes.mark(UNCHANGED)),
        "misses" => {
            let all = scenario.expected.get(cell.expected).map_or(0, Vec::len);
            let how = if all == 1 {
                "misses it".to_owned()
            } else {
                format!("misses {} of {all}", cell.found.missed.len())
            };
            let mut why: Vec<usize> = cell
                .found
                .missed
                .iter()
                .map(|missed| notes.number(why(missed, podman)))
                .collect();
            why.sort_unstable();
            why.dedup();
            let why: Vec<String> = why.iter().map(usize::to_string).collect();
            format!("**✗ {how}**<sup>{}</sup>", why.join(","))
        }
        "invents" => {
            let told = cell.found.invented.first().map_or("", String::as_str);
            format!("**✗ says {}**{}", code(told), notes.mark(INVENTS))
        }
        "misnames" => format!("**✗ wrong letter**{}", notes.mark(MISNAMES)),
        "fails" => {
            let error = cell.found.failed.as_deref().unwrap_or_default();
            let note = format!("The command ends with an error instead of an answer: \"{error}\".");
            format!("**✗ fails**{}", notes.mark(&note))
        }
        other => format!("**✗ {other}**"),
    }
}

const TIMES: &str = "Says `C` of a path of which only the times differ. By its own convention that is no mistake; whoever asks what is different from the image has to look.";
const UNCHANGED: &str = "Says `C` of a path of which nothing differs, not even the times: it is in the upper layer, and that is all that was asked.";
const INVENTS: &str = "Says that a path was deleted that is there, or that one was added that the image has: it was deleted and made again.";
const MISNAMES: &str = "Names the path with another letter than what happened to it.";

/// Why a difference can be missed.
fn why(missed: &Missed, podman: bool) -> &'static str {
    match (missed.why.as_str(), podman) {
        ("content", _) => {
            "The size is the same, and the modification time was put back or never moved. What is compared is size, time, mode, owner and device numbers, and no content. (The comment on that comparison, in [Moby's `pkg/archive/changes.go`](https://github.com/moby/moby/blob/04472304f61784403033f6241a520bd41e5d723b/pkg/archive/changes.go), says that it breaks down when somebody hides a change by setting the time back.)"
        }
        ("target", _) => {
            "The target of a symbolic link is not compared, only its length and its time."
        }
        ("xattr", _) | ("directory", false) => {
            "Of extended attributes only file capabilities are compared."
        }
        ("flags", _) => "Inode flags (`chattr`) are not compared.",
        ("root", _) => "The root directory itself is never named.",
        ("directory", true) => {
            "A directory in the upper layer is left out when its size, mode and time are those of the image: its owner and extended attributes are not compared."
        }
        ("name", false) => {
            "Names are printed raw, a line each: a line end in a name makes two of it. Bytes that are not UTF-8 come out as other characters."
        }
        ("name", true) => {
            "Names are printed raw, a line each: a line end in a name makes two of it."
        }
        ("subvolume", _) => {
            "A nested subvolume is a directory to it: that the files lie in another tree is not told."
        }
        _ => "Not explained by what can be seen from outside.",
    }
}

/// Returns the cell of a scenario that could be done in this column.
pub(crate) fn done<'a>(scenario: &'a Scenario, column: &Column) -> Option<&'a Cell> {
    let cell = scenario.cells.get(&column.id)?;
    (cell.mark != "impossible").then_some(cell)
}

/// The outcome that is shown first: that of a plain overlay, or else of the first column that can do it.
fn usual(scenario: &Scenario) -> usize {
    let possible = scenario.cells.values().filter(|c| c.mark != "impossible");
    possible.map(|cell| cell.expected).min().unwrap_or_default()
}

fn outcome(differences: Option<&Vec<String>>) -> String {
    let differences = differences.map_or(&[][..], Vec::as_slice);
    if differences.is_empty() {
        return "nothing".to_owned();
    }
    let shown = if differences.len() > SHOWN_PATHS {
        SHOWN_PATHS - 1
    } else {
        differences.len()
    };
    let mut parts: Vec<String> = differences
        .iter()
        .take(shown)
        .map(|d| difference(d))
        .collect();
    if differences.len() > shown {
        parts.push(format!("{} more", differences.len() - shown));
    }
    parts.join(", ")
}

/// `C /etc/small content, mode` with the path as code.
fn difference(text: &str) -> String {
    let (letter, rest) = text.split_once(' ').unwrap_or((text, ""));
    // Only what changed has aspects behind the path.
    match rest.split_once(' ') {
        Some((path, aspects)) if letter == "C" => {
            format!("{} ({aspects})", code(&format!("{letter} {path}")))
        }
        _ => code(text),
    }
}

fn code(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_PATH).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("`{}`", shown.replace('|', "\\|"))
}
