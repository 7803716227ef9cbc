//! The committed results of the conformance table are those of the scenarios and columns that there
//! are. That the page was made from these results is checked by `cargo xtask conformance --check`.

use std::collections::BTreeSet;
use std::path::Path;

use plimsoll_e2e::conformance::{self, COLUMNS, IN_EACH_STATE};
use serde_json::Value;

/// Returns these fields of each entry of a list.
fn entries(value: &Value, list: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let of = |entry: &Value| {
        let field = |field: &&str| entry[*field].as_str().unwrap_or_default().to_owned();
        fields.iter().map(field).collect()
    };
    let found = value[list].as_array();
    found
        .unwrap_or_else(|| panic!("no list \"{list}\""))
        .iter()
        .map(of)
        .collect()
}

#[test]
fn the_committed_results_are_of_these_scenarios_and_columns() {
    let outline = conformance::outline();
    if let Some(dir) = conformance::directory() {
        // The results are being made anew, and this is what they are of.
        std::fs::write(dir.join("outline.json"), outline.to_string()).expect("outline");
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/conformance.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let committed: Value = serde_json::from_str(&text).expect("JSON");
    for (list, fields) in [
        ("columns", &["id", "title", "part"][..]),
        ("scenarios", &["group", "name", "done", "needs"]),
    ] {
        let (now, then) = (
            entries(&outline, list, fields),
            entries(&committed, list, fields),
        );
        let differ = |a: &[Vec<String>], b: &[Vec<String>]| -> Vec<Vec<String>> {
            a.iter().filter(|one| !b.contains(one)).cloned().collect()
        };
        assert!(
            now == then,
            "the conformance page is stale: make conformance\n  not in it: {:?}\n  no more: {:?}",
            differ(&now, &then),
            differ(&then, &now)
        );
    }
    assert_eq!(committed["states"], outline["states"], "make conformance");
}

#[test]
fn columns_and_scenarios_have_names_of_their_own() {
    let columns: BTreeSet<_> = COLUMNS.iter().map(|column| column.id).collect();
    assert_eq!(columns.len(), COLUMNS.len());
    let names: Vec<_> = conformance::scenarios().map(|s| s.name).collect();
    let unique: BTreeSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
    for name in IN_EACH_STATE {
        assert!(names.contains(name), "{name}");
    }
}
