//! Two files compared byte by byte, from the page cache.

use std::fs::File;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use plimsoll_host::fs::Comparer;

#[expect(clippy::expect_used, reason = "a benchmark without its files says so")]
fn pair(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut group = c.benchmark_group("compare");
    for size in [200, 8 << 10, 1 << 20] {
        let files = ["a", "b"].map(|name| {
            let path = dir.path().join(name);
            std::fs::write(&path, vec![b'x'; size]).expect("file");
            File::open(path).expect("open")
        });
        let [a, b] = &files;
        group.throughput(Throughput::Bytes(2 * size as u64));
        let mut comparer = Comparer::default();
        group.bench_with_input(BenchmarkId::from_parameter(size), &size, |bench, size| {
            bench.iter(|| {
                let found = comparer.compare(a, b, *size as u64).expect("compare");
                assert!(!found.differs && found.bytes_read == 2 * *size as u64);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pair);
criterion_main!(benches);
