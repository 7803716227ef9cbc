//! The committed results of the page of runtimes are those of the places, states and ways that there
//! are. That the page was made from these results is checked by `cargo xtask runtimes --check`.

use std::collections::BTreeSet;
use std::path::Path;

use plimsoll_e2e::matrix::{self, PLACES};
use serde_json::Value;

#[test]
fn the_committed_results_are_of_these_places() {
    let outline = matrix::outline();
    if let Some(dir) = matrix::directory() {
        // The results are being made anew, and this is what they are of.
        std::fs::write(dir.join("outline.json"), outline.to_string()).expect("outline");
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/runtimes.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let committed: Value = serde_json::from_str(&text).expect("JSON");
    for part in ["places", "accesses", "states", "untested"] {
        assert_eq!(
            committed[part], outline[part],
            "the page of runtimes is stale: make runtimes"
        );
    }
}

#[test]
fn places_have_names_of_their_own() {
    let ids: BTreeSet<_> = PLACES.iter().map(|place| place.id).collect();
    assert_eq!(ids.len(), PLACES.len());
}
