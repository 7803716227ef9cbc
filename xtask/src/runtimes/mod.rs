//! The page of runtimes: which were looked at, with which storage driver, in which state and how, as the
//! tests say.
//!
//! A test that saw the exact changes of a container writes a line of JSON into a directory. Here these
//! lines become `docs/reference/runtimes.json`, and that becomes `docs/reference/runtimes.md`.

mod page;
mod results;

use results::Results;

use crate::generated::Generated;

/// How the page is made.
pub(crate) const RUNTIMES: Generated<Results> = Generated {
    name: "runtimes",
    variable: "PLIMSOLL_MATRIX_DIR",
    tests: &[
        "checkpoints",
        "docker_states",
        "docker_snapshots",
        "containerd_states",
        "containerd_pods",
        "podman_states",
        "podman_composefs",
        "podman_hostile",
        "podman_rootless",
        "runtimes_page",
    ],
    collect: Results::collect,
    parse: Results::parse,
    to_text: Results::to_text,
    render: page::render,
    wrong: Results::open,
};

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_page_is_current() {
        super::RUNTIMES.check(&crate::root()).unwrap();
    }
}
