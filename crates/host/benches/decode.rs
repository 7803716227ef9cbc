//! The decoder of Btrfs items: what a search of a changed container spends its time in beside the
//! kernel.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

// The decoder is no part of what the crate shows. It is a file of pure functions, taken as it is.
#[allow(
    dead_code,
    unused_imports,
    reason = "what is not measured, and its tests"
)]
#[path = "../src/fs/btrfs/decode.rs"]
mod decode;

/// Files in the leaf that is decoded.
const FILES: u64 = 100;

/// Appends an item as the search ioctl returns it.
fn push(leaf: &mut Vec<u8>, key: (u64, u8, u64), data: &[u8]) {
    for number in [7, key.0, key.2] {
        leaf.extend(u64::to_le_bytes(number));
    }
    leaf.extend(u32::from(key.1).to_le_bytes());
    leaf.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes());
    leaf.extend(data);
}

/// Items as they stand for files beside each other: an inode, its name, an extent; then the directory.
fn items() -> (Vec<u8>, u32) {
    let mut leaf = Vec::new();
    let inode = [1; 160];
    let mut extent = vec![0; 53];
    extent[20] = 1;
    let name = |n: u64| format!("file-{n:06}").into_bytes();
    for n in 0..FILES {
        push(&mut leaf, (300 + n, decode::INODE_ITEM, 0), &inode);
        let name = name(n);
        let length = u16::try_from(name.len()).unwrap_or(0).to_le_bytes();
        let reference = [&n.to_le_bytes()[..], &length, &name].concat();
        push(&mut leaf, (300 + n, decode::INODE_REF, 256), &reference);
        push(&mut leaf, (300 + n, decode::EXTENT_DATA, 0), &extent);
    }
    for n in 0..FILES {
        let name = name(n);
        let mut entry = Vec::new();
        entry.extend(u64::to_le_bytes(300 + n));
        entry.push(decode::INODE_ITEM);
        entry.extend([0; 16]);
        entry.extend(0u16.to_le_bytes());
        entry.extend(u16::try_from(name.len()).unwrap_or(0).to_le_bytes());
        entry.push(1);
        entry.extend(&name);
        push(&mut leaf, (1000, decode::DIR_INDEX, n + 2), &entry);
    }
    (leaf, u32::try_from(4 * FILES).unwrap_or(u32::MAX))
}

/// Decodes what the engine decodes of each item, and returns how much that was.
fn decode_all(leaf: &[u8], count: u32) -> u64 {
    let mut sum = 0;
    for item in decode::items(leaf, count) {
        sum += match item.kind {
            decode::INODE_ITEM => decode::Inode::decode(item.data).map_or(0, |i| i.transid),
            decode::INODE_REF => decode::inode_refs(item.data).flatten().count() as u64,
            decode::EXTENT_DATA => {
                decode::FileExtent::decode(item.data).map_or(0, |extent| extent.generation)
            }
            _ => decode::dir_entries(item.data).flatten().count() as u64,
        };
    }
    sum
}

fn decoder(c: &mut Criterion) {
    let (leaf, count) = items();
    assert_ne!(decode_all(&leaf, count), 0);
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(u64::from(count)));
    group.bench_function("btrfs items", |b| {
        b.iter(|| decode_all(black_box(&leaf), count));
    });
    group.finish();
}

criterion_group!(benches, decoder);
criterion_main!(benches);
