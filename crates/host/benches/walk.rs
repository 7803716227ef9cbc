//! The walk of an upper layer over an image: with nothing in it, and with files of which each has its
//! original.

use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use plimsoll_host::fs::Dir;
use plimsoll_host::layers::{Held, Layer, MarkNamespace, OverlayStack};
use plimsoll_host::measure::outcome::Limits;
use plimsoll_host::measure::overlay::OverlayPair;
use plimsoll_host::measure::{Confirm, walk};

/// Files in one directory.
const IN_ONE: usize = 50;

#[expect(clippy::expect_used, reason = "a benchmark without its files says so")]
fn layer(path: &Path) -> Layer {
    std::fs::create_dir_all(path).expect("directory");
    Layer {
        dir: Arc::new(Dir::open(path).expect("open")),
        path: path.to_owned(),
        diff_id: None,
    }
}

/// Makes the same files in both layers, of one length and other bytes.
#[expect(clippy::expect_used, reason = "a benchmark without its files says so")]
fn fill(upper: &Path, image: &Path, files: usize) {
    for n in 0..files {
        let dir = format!("srv/d{:04}", n / IN_ONE);
        for (layer, byte) in [(upper, b'u'), (image, b'i')] {
            let dir = layer.join(&dir);
            if n % IN_ONE == 0 {
                std::fs::create_dir_all(&dir).expect("directory");
            }
            std::fs::write(dir.join(format!("f{n:05}")), [byte; 200]).expect("file");
        }
    }
}

#[expect(clippy::expect_used, reason = "a benchmark without its files says so")]
fn upper(c: &mut Criterion) {
    let mut group = c.benchmark_group("walk");
    for files in [0, 1, 1000] {
        let root = tempfile::tempdir().expect("temporary directory");
        let (upper, image) = (root.path().join("upper"), root.path().join("image"));
        let stack = OverlayStack {
            upper: layer(&upper),
            index: None,
            injected: Vec::new(),
            injected_paths: Vec::new(),
            image: vec![Arc::new(layer(&image))],
            data_only: Vec::new(),
            marks: MarkNamespace::Trusted,
            held: Held::default(),
        };
        fill(&upper, &image, files);
        group.throughput(Throughput::Elements(files.max(1) as u64));
        for (name, confirm) in [("exact", Confirm::Auto), ("pure", Confirm::Never)] {
            group.bench_with_input(BenchmarkId::new(name, files), &files, |b, files| {
                b.iter(|| {
                    let mut pair = OverlayPair::container(&stack, confirm).expect("pair");
                    let limits = Limits {
                        expand: false,
                        max_changes: 100_000,
                    };
                    let found = walk::walk(&mut pair, limits);
                    assert_eq!((found.changes.len(), found.gaps.len()), (*files, 0));
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, upper);
criterion_main!(benches);
