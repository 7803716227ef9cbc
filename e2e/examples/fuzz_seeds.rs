//! Takes what the fuzzers begin with from real file systems, a real Docker, containerd and Podman and this machine's `/proc`:
//! `cargo run --package plimsoll-e2e --example fuzz_seeds -- DIRECTORY`, as root. A folder for each target,
//! in the form that its property in `crates/*/src/**/fuzzing*` wants.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a harness fails by panicking, loudly"
)]

#[path = "fuzz_seeds/btrfs.rs"]
mod btrfs;
#[path = "fuzz_seeds/containerd.rs"]
mod containerd;
#[path = "fuzz_seeds/docker.rs"]
mod docker;
#[path = "fuzz_seeds/overlay.rs"]
mod overlay;
#[path = "fuzz_seeds/storage.rs"]
mod storage;
#[path = "fuzz_seeds/text.rs"]
mod text;

use std::collections::HashSet;
use std::path::PathBuf;

/// Longest seed that is kept, in bytes: the corpus keeps none above 64 KiB.
const LENGTH_MAX: usize = 64 << 10;

/// Where seeds go.
#[derive(Debug)]
struct Seeds {
    directory: PathBuf,
    known: HashSet<(String, Vec<u8>)>,
}

impl Seeds {
    /// Adds one for a target, unless it is there or too long.
    fn add(&mut self, target: &str, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        if bytes.len() > LENGTH_MAX || !self.known.insert((target.to_owned(), bytes.to_vec())) {
            return;
        }
        let folder = self.directory.join(target);
        std::fs::create_dir_all(&folder).unwrap();
        let name = format!("seed-{:04}", self.known.len());
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

fn main() {
    let directory = std::env::args_os()
        .nth(1)
        .expect("a directory for the seeds");
    let mut seeds = Seeds {
        directory: directory.into(),
        known: HashSet::new(),
    };
    text::take(&mut seeds);
    overlay::take(&mut seeds);
    btrfs::take(&mut seeds);
    docker::take(&mut seeds);
    storage::take(&mut seeds);
    containerd::take(&mut seeds);
    println!("{} seeds", seeds.known.len());
}
