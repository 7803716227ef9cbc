//! The conformance page: what the tests found, scenario by scenario, as one page that is never written
//! by hand.
//!
//! The tests write a line of JSON for each scenario that they ran into a directory. Here these lines
//! become `docs/reference/conformance.json`, and that becomes `docs/reference/conformance.md`.

mod cells;
mod page;
mod places;
mod results;

use results::Results;

use crate::generated::Generated;

/// How the page is made.
pub(crate) const CONFORMANCE: Generated<Results> = Generated {
    name: "conformance",
    variable: "PLIMSOLL_CONFORMANCE_DIR",
    tests: &[
        "overlay_operations",
        "btrfs_operations",
        "btrfs_evasion",
        "conformance_docker",
        "conformance_containerd",
        "conformance_podman",
        "conformance_page",
    ],
    collect: Results::collect,
    parse: Results::parse,
    to_text: Results::to_text,
    render: page::render,
    wrong: Results::wrong,
};

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_page_is_current() {
        super::CONFORMANCE.check(&crate::root()).unwrap();
    }
}
