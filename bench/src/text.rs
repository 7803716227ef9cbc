//! How times, sizes, counts and answers are written on the pages.

use crate::results::{Answer, Cell};

/// Writes microseconds with three digits.
pub(crate) fn time(micros: f64) -> String {
    let (value, unit) = match micros {
        ..1_000.0 => (micros, "µs"),
        ..1_000_000.0 => (micros / 1_000.0, "ms"),
        _ => (micros / 1_000_000.0, "s"),
    };
    format!("{} {unit}", three(value))
}

/// Writes a number with three digits, and with all of those before the point.
pub(crate) fn three(value: f64) -> String {
    match value.abs() {
        100.0.. => thousands(value.round() as u64),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Writes a count with commas.
pub(crate) fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Writes what an answer got wrong, in counts and kinds.
pub(crate) fn wrong(answer: &Answer) -> String {
    let list = |counts: &std::collections::BTreeMap<crate::changes::Kind, usize>| {
        let parts: Vec<String> = counts
            .iter()
            .map(|(kind, count)| format!("{} {}", thousands(*count as u64), kind.label()))
            .collect();
        parts.join(", ")
    };
    let mut parts = Vec::new();
    if answer.missed() > 0 {
        parts.push(format!(
            "misses {} of {}: {}",
            thousands(answer.missed() as u64),
            thousands(answer.differ as u64),
            list(&answer.missed)
        ));
    }
    if !answer.invented.is_empty() {
        parts.push(format!("names as changed: {}", list(&answer.invented)));
    }
    if answer.untouched > 0 {
        let examples: Vec<String> = answer
            .examples
            .iter()
            .map(|path| format!("`{path}`"))
            .collect();
        parts.push(format!(
            "names {} that nobody touched ({})",
            thousands(answer.untouched as u64),
            examples.join(", ")
        ));
    }
    if parts.is_empty() {
        "nothing".into()
    } else {
        parts.join("; ")
    }
}

/// Writes a cell's median with its range and the number of its runs.
pub(crate) fn spread(cell: &Cell) -> String {
    let (least, most) = cell.range();
    match cell.samples.len() {
        1 => format!("{} (1 run)", time(cell.median())),
        runs => format!(
            "{} ({}–{}, {runs} runs)",
            time(cell.median()),
            time(least as f64),
            time(most as f64)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(time(950.0), "950 µs");
        assert_eq!(time(1_234.0), "1.23 ms");
        assert_eq!(time(43_022_230.0), "43.0 s");
        assert_eq!(three(3342.8), "3,343");
        assert_eq!(thousands(1_000_000), "1,000,000");
    }

    #[test]
    fn answers() {
        use crate::changes::Kind;
        let answer = Answer {
            differ: 100,
            missed: [(Kind::Mode, 14)].into(),
            untouched: 1,
            examples: vec!["/etc".into()],
            ..Answer::default()
        };
        assert_eq!(
            wrong(&answer),
            "misses 14 of 100: 14 changed modes; names 1 that nobody touched (`/etc`)"
        );
        assert_eq!(wrong(&Answer::default()), "nothing");
    }
}
