//! What must hold of what is made of a Btrfs file system's trees, whatever they hold.
#![expect(
    clippy::unwrap_used,
    reason = "a property that does not hold is a panic: that is how a fuzzer is told"
)]

use std::collections::BTreeMap;
use std::io::Write as _;

use plimsoll_core::fuzzing::Input;
use plimsoll_core::model::{Change, ChangeKind, RootPath};
use plimsoll_syscall::btrfs::FsInfo;

use super::batch::Batch;
use super::checksums::Checksums;
use super::chunks::copies_in;
use super::compression::{MAX_COMPRESSED, decompress};
use super::device::{Devices, Unreadable, is_superblock_of};
use super::extents::{Extents, Segment};
use super::open::Sides;
use super::steady::Start;
use super::{BtrfsPair, Scope};
use crate::fs::btrfs::decode::{Chunk, EXTENT_CSUM, EXTENT_DATA, FileExtent, Place};
use crate::fs::btrfs::memory::Memory;
use crate::layers::Subvolume;
use crate::measure::outcome::{Limits, Outcome};
use crate::measure::{Confirm, paths, walk};

/// `struct btrfs_chunk`, and where on the devices it puts an address.
pub fn btrfs_chunk(data: &[u8]) {
    let mut input = Input::new(data);
    let (at, item) = (input.u64(), input.rest());
    let (length, _owner, stripe_length) = (input.u64(), input.u64(), input.u64());
    let (profile, _align, _width, _sector) = (input.u64(), input.u32(), input.u32(), input.u32());
    let (count, sub_stripes) = (input.u16(), input.u16());
    let mut stripes = Vec::new();
    for _ in 0..count {
        if input.rest().len() < 16 {
            break;
        }
        stripes.push((input.u64(), input.u64()));
        input.take(16);
    }
    let whole = item.len() >= 48 && stripes.len() == usize::from(count);
    let expected = Chunk {
        length,
        stripe_length,
        profile,
        sub_stripes,
        stripes,
    };
    let Some(chunk) = Chunk::decode(item) else {
        return assert!(!whole);
    };
    assert!(whole);
    assert_eq!(chunk, expected);
    assert!(copies_in(&chunk, chunk.length).is_none());
    for at in [at, at % length.max(1), 0] {
        check_copies(&chunk, at);
    }
}

/// The arithmetic of `btrfs_map_block` (`fs/btrfs/volumes.c`), with room for every number.
fn check_copies(chunk: &Chunk, at: u64) {
    let copies = match copies_in(chunk, at) {
        None => return,
        Some(Err(Unreadable::NotSupported)) => return assert_ne!(chunk.profile & 0x180, 0),
        Some(Err(other)) => panic!("{other:?}"),
        Some(Ok(copies)) => copies,
    };
    assert!(at < chunk.length && copies.contiguous > 0);
    assert!(copies.contiguous <= chunk.length - at);
    assert!(copies.at.len() <= chunk.stripes.len());
    let striped = chunk.profile & (1 << 3 | 1 << 6) != 0;
    let mirrors = match (striped, chunk.profile & 1 << 6 != 0) {
        (false, _) => chunk.stripes.len(),
        (true, false) => 1,
        (true, true) => usize::from(chunk.sub_stripes.max(1)),
    };
    assert_eq!(copies.at.len(), mirrors);
    let wide = |n: u64| u128::from(n);
    let (row, first, within) = if striped {
        let stripe_length = wide(chunk.stripe_length.max(1));
        let columns = (chunk.stripes.len() / mirrors).max(1) as u128;
        let stripe = wide(at) / stripe_length;
        let row = stripe / columns * stripe_length;
        let first = usize::try_from(stripe % columns).unwrap() * mirrors;
        (row, first, wide(at) % stripe_length)
    } else {
        (0, 0, wide(at))
    };
    for (copy, (device, offset)) in copies.at.iter().zip(&chunk.stripes[first..]) {
        let expected = (wide(*offset) + row + within).min(wide(u64::MAX));
        assert_eq!((copy.0, wide(copy.1)), (*device, expected));
    }
}

/// A superblock names one device of one file system.
pub fn btrfs_superblock(data: &[u8]) {
    let mut input = Input::new(data);
    let id = input.u64();
    let mut uuid = [0; 16];
    let given = input.take(16);
    uuid[..given.len()].copy_from_slice(given);
    let block = input.rest();
    // Checksum, file system, address and flags stand before the magic number.
    let magic = block.iter().copied().skip(32 + 16 + 8 + 8).take(8);
    let device = block.iter().copied().skip(201);
    let in_block = magic.eq(*b"_BHRfS_M")
        && device.clone().take(8).eq(id.to_le_bytes())
        && device.skip(66).take(16).eq(uuid);
    assert_eq!(is_superblock_of(block, id, &uuid), in_block);
}

/// The extents of a file cover it once, in their order, whatever items it has.
pub fn btrfs_extents(data: &[u8]) {
    const FILE: (u64, u64) = (5, 257);
    let mut input = Input::new(data);
    let size = input.u64();
    let mut items = BTreeMap::new();
    let mut memory = Memory::default();
    // Something that is no extent of this file stands beside it.
    memory.insert(FILE.0, (FILE.1 + 1, EXTENT_DATA, 0), 1, &[]);
    while !input.is_empty() {
        let (offset, length) = (input.u64(), usize::from(input.u16()));
        let item = input.take(length);
        memory.insert(FILE.0, (FILE.1, EXTENT_DATA, offset), 1, item);
        items.insert(offset, item);
    }
    let anchor = Memory::anchor();
    let mut trees = memory.trees(&anchor);
    let mut extents = Extents::new(FILE, size);
    let mut found: Vec<Segment> = Vec::new();
    let mut at = 0;
    let outcome = loop {
        if at >= size {
            break Ok(());
        }
        match extents.at(&mut trees, at) {
            Ok(segment) => {
                assert!(segment.start <= at && at < segment.end && segment.end <= size);
                at = segment.end;
                found.push(segment);
            }
            Err(error) => break Err(error),
        }
        assert!(found.len() <= 2 * items.len() + 1);
    };
    // The plain way: all at once.
    let mut expected = Vec::new();
    let (mut end, mut good) = (0, true);
    for (start, item) in &items {
        let extent = FileExtent::decode(item);
        let upto = extent
            .as_ref()
            .and_then(|extent| start.checked_add(extent.length()));
        let (Some(extent), Some(upto)) = (extent, upto) else {
            good = false;
            break;
        };
        good &= *start >= end;
        end = upto;
        if *start < size && upto > *start {
            expected.push(Segment {
                start: *start,
                end: upto.min(size),
                extent,
            });
        }
    }
    match outcome {
        Ok(()) => assert!(good || size == 0 || items.len() > 256),
        Err(Unreadable::Moved | Unreadable::Trouble(_)) => return assert!(!good),
        Err(Unreadable::NotSupported) => panic!("nothing here is not supported"),
    }
    if good && size > 0 {
        assert_eq!(at, size);
        found.retain(|segment| !is_hole(segment));
        expected.retain(|segment| !is_hole(segment));
        assert_eq!(found, expected);
    }
}

/// Whether a segment has no item, or looks as if it had none.
fn is_hole(segment: &Segment) -> bool {
    let length = segment.end - segment.start;
    segment.extent.generation == 0 && segment.extent.place == Place::Zeros { length }
}

/// What is read from a checksum tree is there, and belongs to the sectors that were asked for.
pub fn btrfs_checksums(data: &[u8]) {
    const TREE: u64 = 7;
    const OBJECT: u64 = u64::MAX - 9;
    let mut input = Input::new(data);
    let (kind, width) = match input.u8() % 5 {
        0 => (0, 4),
        1 => (1, 8),
        2 => (2, 32),
        3 => (3, 32),
        // None that is known here.
        _ => (4 + u16::from(input.u8()), 1 + u16::from(input.u8() % 64)),
    };
    let info = FsInfo {
        id: [0; 16],
        node_size: 4096 << (input.u8() % 5),
        sector_size: 4096 << (input.u8() % 5),
        checksum_type: kind,
        checksum_size: width,
    };
    let checksums = Checksums::with(info);
    let sector = u64::from(info.sector_size);
    let width = usize::from(width);
    let address = input.u64() / sector * sector;
    let length = u64::from(input.u32());
    let mut memory = Memory::default();
    memory.insert(TREE, (OBJECT, EXTENT_CSUM + 1, 0), 1, &[]);
    let mut items = BTreeMap::new();
    while !input.is_empty() {
        let (offset, length) = (input.u64(), usize::from(input.u16()));
        let item = input.take(length);
        memory.insert(TREE, (OBJECT, EXTENT_CSUM, offset), 1, item);
        items.insert(offset, item);
    }
    let anchor = Memory::anchor();
    let mut trees = memory.trees(&anchor);
    let sums = checksums.read(&mut trees, address, length).unwrap();

    // Every checksum of a sector that any item has.
    let of = |wanted: u64| {
        let items = items.iter();
        items.filter_map(move |(start, item)| {
            let index = wanted.checked_sub(*start)? / sector;
            let at = usize::try_from(index).ok()?.checked_mul(width)?;
            item.get(at..at.checked_add(width)?)
        })
    };
    let sectors = || (0..length.div_ceil(sector)).map(|n| address.checked_add(n * sector));
    match sums {
        Some(sums) => {
            assert_eq!(sums.len() as u64, length.div_ceil(sector) * width as u64);
            for (wanted, sum) in sectors().zip(sums.chunks(width)) {
                assert!(of(wanted.unwrap()).any(|known| known == sum));
            }
            // Bytes that have these checksums would be other bytes if one bit of those were another.
            check_hold(&checksums, info, input.rest());
        }
        None => {
            // No item begins off its sector, overlaps the next one, or is longer than a leaf.
            let mut ends = 0;
            let tidy = items.iter().all(|(start, item)| {
                let free = ends;
                let covered = (item.len() / width) as u64 * sector;
                ends = start.saturating_add(covered);
                *start >= free
                    && start.is_multiple_of(sector)
                    && item.len() <= info.node_size as usize
                    && item.len().is_multiple_of(width)
            });
            let all = address.checked_add(length).is_some()
                && sectors().all(|wanted| wanted.is_some_and(|wanted| of(wanted).next().is_some()));
            assert!(!tidy || !all || length == 0);
        }
    }
    check_hold(&checksums, info, data);
}

fn check_hold(checksums: &Checksums, info: FsInfo, data: &[u8]) {
    let mut sectors = data.to_vec();
    sectors.resize(sectors.len().next_multiple_of(info.sector_size as usize), 0);
    // CRC-32C bit by bit: the only one that is not somebody else's to prove.
    let mut sums: Vec<u8> = sectors
        .chunks(info.sector_size as usize)
        .flat_map(|sector| {
            let mut crc = u32::MAX;
            for byte in sector {
                crc ^= u32::from(*byte);
                for _ in 0..8 {
                    crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
                }
            }
            (!crc).to_le_bytes()
        })
        .collect();
    if info.checksum_type == 0 {
        assert!(checksums.hold(&sectors, &sums));
        if let Some(byte) = sums.last_mut() {
            *byte ^= 1;
            assert!(!checksums.hold(&sectors, &sums));
        }
    }
}

/// What is undone of a compression is no longer than it may be, and what was put in.
pub fn btrfs_decompress(data: &[u8]) {
    let mut input = Input::new(data);
    let (method, ram_bytes, bytes) = (input.u8() % 5, u64::from(input.u32()), input.rest());
    let limit = ram_bytes.min(MAX_COMPRESSED);
    let out = match decompress(method, bytes, ram_bytes) {
        Ok(out) => out,
        Err(Unreadable::Trouble(trouble)) => {
            plimsoll_core::fuzzing::says_plainly(&trouble.0);
            Vec::new()
        }
        Err(Unreadable::NotSupported) => return assert!(![0, 1, 3].contains(&method)),
        Err(Unreadable::Moved) => panic!("nothing moves here"),
    };
    match method {
        0 => assert_eq!(out, bytes),
        _ => assert!(out.len() as u64 <= limit),
    }
    // What a decoder has to keep in memory is what the frame says (RFC 8878, 3.1.1.1), and the kernel
    // takes no more than 128 KiB.
    if method == 3 && window(bytes).is_some_and(|window| window > 128 << 10) {
        assert_eq!(out, b"");
    }
    // Less of it is the beginning of it.
    let half = decompress(method, bytes, ram_bytes / 2);
    if let (Ok(half), 1..) = (half, out.len()) {
        assert!(out.starts_with(&half));
    }
    // The other way round, in the form that the kernel writes: windows of at most 128 KiB.
    let packed = match method {
        1 => {
            let mut packer =
                flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        }
        3 => {
            let mut packer = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            packer.window_log(17).unwrap();
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        }
        _ => return,
    };
    let expected = &bytes[..bytes.len().min(usize::try_from(limit).unwrap())];
    assert_eq!(decompress(method, &packed, ram_bytes).unwrap(), expected);
}

/// Returns the window that a zstd frame wants.
fn window(frame: &[u8]) -> Option<u64> {
    let mut header = Input::new(frame.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?);
    let descriptor = header.u8();
    let single_segment = descriptor & 0x20 != 0;
    let mut window = 0;
    if !single_segment {
        let size = header.u8();
        let base = 1u64 << (10 + (size >> 3));
        window = base + base / 8 * u64::from(size & 7);
    }
    header.take([0, 1, 2, 4][usize::from(descriptor & 3)]);
    if single_segment {
        window = match descriptor >> 6 {
            0 => u64::from(header.u8()),
            1 => u64::from(header.u16()) + 256,
            2 => u64::from(header.u32()),
            _ => header.u64(),
        };
    }
    Some(window)
}

/// The whole engine on two trees: it ends, names paths that can be, and finds nothing between a tree and
/// its copy.
pub fn btrfs_walk(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let confirm = [Confirm::Auto, Confirm::Never, Confirm::Always][usize::from(mode) % 3];
    let limits = Limits {
        expand: mode & 0x80 != 0,
        max_changes: 1000,
    };
    let (image, container) = (input.u64(), input.u64());
    let mut memory = Memory::parse(input.rest());
    let anchor = Memory::anchor();
    let subvolume = |id| Subvolume {
        id,
        path: "/".into(),
    };
    let open = |memory: &Memory, scope, confirm| {
        let mut trees = memory.clone().trees(&anchor);
        let (image, container) = (subvolume(image), subvolume(container));
        let (start, root) = Start::flush(&mut trees, container.id, || Ok(())).ok()?;
        let sides = Sides {
            image: &image,
            container: &container,
            looked_at: &container,
            container_root: root?,
            may_have_threads: false,
        };
        let pair = BtrfsPair::over(trees, start, sides, scope, confirm, |_| None).ok()?;
        let info = FsInfo {
            id: [0; 16],
            node_size: 16 << 10,
            sector_size: 4096,
            checksum_type: 2,
            checksum_size: 32,
        };
        Some(BtrfsPair {
            devices: Devices::none(Checksums::with(info)),
            batch: Batch::default(),
            ..pair
        })
    };
    let Some(mut pair) = open(&memory, Scope::Everything, confirm) else {
        return;
    };
    let found = walk::walk(&mut pair, limits);
    sound(&found);
    drop((pair.reference_moved(), pair.still_there()));

    // A path that only one side has, or has as another type, is told of by itself as well. What a file
    // holds is not: of one path alone the transaction of its inode tells, and on such a disk may lie.
    let is_there = |change: &&Change| change.kind != ChangeKind::Changed;
    let told: Vec<RootPath> = found.changes.iter().map(|c| c.path.clone()).collect();
    let one_sided = found.changes.iter().filter(is_there).map(|c| &c.path);
    let is_top = |path: &RootPath| {
        let mut above = path.parent();
        while let Some(parent) = above {
            if told.contains(&parent) {
                return false;
            }
            above = parent.parent();
        }
        true
    };
    if let Some(path) = one_sided.clone().find(|path| is_top(path))
        && let Some(mut pair) = open(&memory, Scope::Paths, confirm)
    {
        let one = paths::check(&mut pair, std::slice::from_ref(path), limits);
        sound(&one);
        assert!(
            one.changes.iter().any(|change| change.path == *path) || !one.gaps.is_empty(),
            "{path}"
        );
    }

    // Content that is read would be read from devices.
    if confirm != Confirm::Always && memory.len(image) > 0 {
        memory.copy(image, container);
        if let Some(mut pair) = open(&memory, Scope::Everything, confirm) {
            assert_eq!(walk::walk(&mut pair, limits).changes, []);
        }
    }
}

fn sound(outcome: &Outcome) {
    for change in &outcome.changes {
        let path = change.path.as_bytes();
        assert_eq!(RootPath::parse(path).as_ref(), Ok(&change.path));
        if let Some(from) = &change.renamed_from {
            assert_eq!(RootPath::parse(from.as_bytes()).as_ref(), Ok(&**from));
        }
        assert!(change.xattrs.is_sorted());
    }
    let paths = outcome.changes.iter().map(|change| &change.path);
    assert!(paths.clone().zip(paths.skip(1)).all(|(a, b)| a < b));
}
