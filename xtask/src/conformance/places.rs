//! Sets of columns in few words.

use super::results::{Column, Results};

/// Most columns that are named after "but".
const EXCEPTIONS: usize = 3;

/// Returns a column's title with what it is a column of.
pub(crate) fn full_title(column: &Column) -> String {
    match column.part.as_str() {
        "overlay" => format!("overlay on {}", column.title),
        "btrfs" => format!("Btrfs subvolume, {}", column.title),
        _ => column.title.clone(),
    }
}

/// Names the columns of `these` among all those of `parts` that `among` picks.
pub(crate) fn named(
    results: &Results,
    parts: &[&'static str],
    among: impl Fn(&Column) -> bool,
    these: impl Fn(&Column) -> bool,
) -> String {
    let mut told = Vec::new();
    for part in parts {
        let all: Vec<&Column> = results.of_part(part).filter(|c| among(c)).collect();
        let (inside, outside): (Vec<&Column>, Vec<&Column>) =
            all.iter().copied().partition(|column| these(column));
        if inside.is_empty() {
            continue;
        }
        let titles = |columns: &[&Column]| -> String {
            let titles: Vec<&str> = columns.iter().map(|c| c.title.as_str()).collect();
            titles.join(" · ")
        };
        told.push(match (*part, outside.len()) {
            ("overlay", 0) => "every overlay".to_owned(),
            ("btrfs", 0) => "every Btrfs subvolume".to_owned(),
            ("overlay", 1..=EXCEPTIONS) if inside.len() > EXCEPTIONS => {
                format!("every overlay but on {}", titles(&outside))
            }
            ("overlay", _) => format!("overlay on {}", titles(&inside)),
            ("btrfs", _) => format!("Btrfs subvolume, {}", titles(&inside)),
            _ => titles(&inside),
        });
    }
    told.join("; ")
}
