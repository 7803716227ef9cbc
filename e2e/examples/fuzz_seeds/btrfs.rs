//! Items of the trees of real Btrfs file systems.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use plimsoll_e2e::command::shell;
use plimsoll_e2e::loopfs::{Kind, LoopFs};
use plimsoll_syscall::btrfs::{SearchBuffer, SearchKey, device_info, fs_info};

use super::Seeds;

/// Trees of a file system (`include/uapi/linux/btrfs_tree.h`).
const ROOT_TREE: u64 = 1;
const CHUNK_TREE: u64 = 3;
const CSUM_TREE: u64 = 7;

/// Types of items.
const INODE_ITEM: u8 = 1;
const INODE_REF: u8 = 12;
const INODE_EXTREF: u8 = 13;
const XATTR_ITEM: u8 = 24;
const DIR_ITEM: u8 = 84;
const DIR_INDEX: u8 = 96;
const EXTENT_DATA: u8 = 108;
const EXTENT_CSUM: u8 = 128;
const ROOT_ITEM: u8 = 132;
const ROOT_BACKREF: u8 = 144;
const ROOT_REF: u8 = 156;
const CHUNK_ITEM: u8 = 228;

/// An image with what a rootfs has, and a container that changed a little of everything.
const FILL: &str = r#"
cd "$FS"
btrfs -q subvolume create image
cd image
umask 022
mkdir -p etc usr/bin var/log
printf 'root:x:0:0\n' > etc/passwd
head -c 1500 /dev/zero | tr '\0' a > etc/inline
head -c 20000 /dev/zero | tr '\0' b > usr/bin/tool
chmod 4755 usr/bin/tool
ln usr/bin/tool usr/bin/hard
ln -s ../usr/bin/tool etc/link
head -c 70000 /dev/urandom > var/log/random
truncate -s 1M var/log/sparse
printf x | dd of=var/log/sparse bs=1 seek=500000 conv=notrunc status=none
: > var/log/reserved
fallocate -n -l 64K var/log/reserved
mkfifo var/pipe
mknod var/device c 1 3
setfattr -n user.name -v value etc/passwd
setfattr -n trusted.other -v 0x00ff etc/passwd
setfacl -m u:7:r etc/passwd
chattr +i etc/inline
printf '' > "etc/$(printf 'a\nb\377')"
# More names of one inode than one item holds.
printf many > many
for n in $(seq 40); do ln many "$(printf 'link-%0240d' "$n")"; done
cd ..
sync -f .
btrfs -q subvolume snapshot image container
cd container
printf 'root:x:0:0\nevil\n' > etc/passwd
printf y | dd of=usr/bin/tool bs=1 seek=5000 conv=notrunc status=none
printf z | dd of=var/log/random bs=1 seek=40000 conv=notrunc status=none
mv var/log/sparse var/log/moved
rm var/pipe link-*7
mkdir -p new/dir
cp --reflink=always usr/bin/tool new/dir/copy
rm etc/link
mkdir etc/link
btrfs -q subvolume create var/nested
printf n > var/nested/file
sync -f .
"#;

/// Takes seeds of everything that is decoded of Btrfs.
pub(super) fn take(seeds: &mut Seeds) {
    for (mkfs, mount) in [
        (&[][..], ""),
        (&["--csum", "sha256", "-m", "dup"], ",compress-force=zstd"),
        (&["--csum", "xxhash"], ",compress-force=zlib"),
        (&["--csum", "blake2", "-n", "4096"], ",compress-force=lzo"),
    ] {
        let fs = LoopFs::with(Kind::Btrfs, 256, mkfs, mount);
        shell(&format!("FS='{}'\n{FILL}", fs.path().display()));
        let file_system = FileSystem::open(&fs.path());
        of_items(seeds, &file_system);
        of_walks(seeds, &file_system, mkfs.is_empty());
        of_checksums(seeds, &file_system);
        of_superblock(seeds, &file_system, &fs.path().with_file_name("image"));
        drop(file_system);
        // An immutable file keeps nothing from being unmounted.
    }
}

/// One item, with the transaction of its leaf.
type Item = (u64, (u64, u8, u64), Vec<u8>);

struct FileSystem {
    top: File,
    image: u64,
    container: u64,
    /// All items of the trees that are read, by tree.
    trees: BTreeMap<u64, Vec<Item>>,
    /// What one search returned of the container.
    buffer: (u32, Vec<u8>),
}

impl FileSystem {
    fn open(path: &Path) -> Self {
        let top = File::open(path).unwrap();
        let id = |name: &str| {
            let text = shell(&format!(
                "btrfs inspect-internal rootid '{}'",
                path.join(name).display()
            ));
            text.trim().parse().unwrap()
        };
        let (image, container) = (id("image"), id("container"));
        let nested = id("container/var/nested");
        let mut buffer = SearchBuffer::default();
        let mut trees = BTreeMap::new();
        for tree in [ROOT_TREE, CHUNK_TREE, CSUM_TREE, image, container, nested] {
            trees.insert(tree, items(&top, &mut buffer, tree));
        }
        let key = SearchKey {
            tree_id: container,
            min: (0, 0, 0),
            max: (u64::MAX, u8::MAX, u64::MAX),
            min_transid: 0,
            max_items: 40,
        };
        let count = buffer.search(top.as_fd(), &key, 64 << 10).unwrap();
        let bytes = buffer.items()[..8 << 10].to_vec();
        Self {
            top,
            image,
            container,
            trees,
            buffer: (count, bytes),
        }
    }

    fn tree(&self, tree: u64) -> &[Item] {
        &self.trees[&tree]
    }
}

fn items(top: &File, buffer: &mut SearchBuffer, tree: u64) -> Vec<Item> {
    let mut found: Vec<Item> = Vec::new();
    let mut key = SearchKey {
        tree_id: tree,
        min: (0, 0, 0),
        max: (u64::MAX, u8::MAX, u64::MAX),
        min_transid: 0,
        max_items: u32::MAX,
    };
    loop {
        let count = buffer.search(top.as_fd(), &key, 64 << 10).unwrap();
        let mut bytes = buffer.items();
        for _ in 0..count {
            let (header, rest) = bytes.split_at(32);
            let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
            let half = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
            let (data, rest) = rest.split_at(half(28) as usize);
            let kind = u8::try_from(half(24)).unwrap();
            found.push((word(0), (word(8), kind, word(16)), data.to_vec()));
            bytes = rest;
        }
        match found.last() {
            Some((_, (object, kind, offset), _)) if count > 0 => {
                key.min = (*object, *kind, offset + 1);
            }
            _ => return found,
        }
    }
}

fn of_items(seeds: &mut Seeds, fs: &FileSystem) {
    let (count, bytes) = &fs.buffer;
    seeds.add("btrfs_search", [&count.to_le_bytes(), &bytes[..]].concat());
    for (_, (_, kind, offset), data) in fs.trees.values().flatten() {
        match *kind {
            INODE_ITEM => seeds.add("btrfs_inode", data),
            INODE_REF | INODE_EXTREF | XATTR_ITEM | DIR_ITEM | DIR_INDEX | ROOT_REF
            | ROOT_BACKREF => seeds.add("btrfs_names", data),
            ROOT_ITEM => seeds.add("btrfs_root", data),
            CHUNK_ITEM => {
                let at = offset / 2 % (1 << 20);
                seeds.add("btrfs_chunk", [&at.to_le_bytes(), &data[..]].concat());
            }
            EXTENT_DATA => {
                seeds.add("btrfs_extent", data);
                if let (Some(&compression @ 1..=3), Some(0)) = (data.get(16), data.get(20)) {
                    let ram_bytes = &data[8..12];
                    let whole = [&[compression], ram_bytes, &data[21..]].concat();
                    seeds.add("btrfs_decompress", whole);
                }
            }
            _ => {}
        }
    }
    let mut files: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
    for tree in [fs.image, fs.container] {
        for (_, (inode, kind, offset), data) in fs.tree(tree) {
            if *kind == INODE_ITEM {
                files.insert((tree, *inode), data[16..24].to_vec());
            } else if *kind == EXTENT_DATA {
                let file = files.get_mut(&(tree, *inode)).unwrap();
                file.extend(record(*offset, data));
            }
        }
    }
    for file in files.values() {
        seeds.add("btrfs_extents", file);
    }
}

fn record(offset: u64, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    [&offset.to_le_bytes(), &length.to_le_bytes()[..], data].concat()
}

/// The whole of a small file system, or what a container that changed little has.
fn of_walks(seeds: &mut Seeds, fs: &FileSystem, everything: bool) {
    let chosen = |tree: u64, (object, kind, _): (u64, u8, u64)| match tree {
        ROOT_TREE => [ROOT_ITEM, ROOT_REF, ROOT_BACKREF].contains(&kind) && object >= 5,
        CHUNK_TREE => kind == CHUNK_ITEM,
        CSUM_TREE => everything,
        _ => true,
    };
    for (mode, sides) in [
        (0, [fs.image, fs.container]),
        (0x81, [fs.image, fs.container]),
        (2, [fs.image, fs.container]),
        (1, [fs.container, fs.image]),
    ] {
        let mut seed = vec![mode];
        for side in sides {
            seed.extend(side.to_le_bytes());
        }
        for (tree, items) in &fs.trees {
            for (transid, key, data) in items.iter().filter(|item| chosen(*tree, item.1)) {
                // The many names of one inode are in the seeds of names.
                if data.windows(6).any(|part| part == b"link-0") {
                    continue;
                }
                for number in [*tree, *transid, key.0, key.2] {
                    seed.extend(number.to_le_bytes());
                }
                seed.extend(u32::from(key.1).to_le_bytes());
                seed.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
                seed.extend(data);
            }
        }
        assert!(seed.len() <= super::LENGTH_MAX, "{} bytes", seed.len());
        seeds.add("btrfs_walk", &seed);
    }
}

fn of_checksums(seeds: &mut Seeds, fs: &FileSystem) {
    let info = fs_info(fs.top.as_fd()).unwrap();
    let kind = u8::try_from(info.checksum_type).unwrap();
    let node = u8::try_from((info.node_size / 4096).trailing_zeros()).unwrap();
    let sector = u8::try_from((info.sector_size / 4096).trailing_zeros()).unwrap();
    let sums: Vec<&Item> = fs
        .tree(CSUM_TREE)
        .iter()
        .filter(|item| item.1.1 == EXTENT_CSUM)
        .collect();
    let Some((_, (_, _, first), _)) = sums.first() else {
        return;
    };
    for (address, length) in [(*first, 4096u32), (first + 4096, 70_000), (1 << 20, 1)] {
        let mut seed = vec![kind, node, sector];
        seed.extend(address.to_le_bytes());
        seed.extend(length.to_le_bytes());
        for (_, (_, _, offset), data) in &sums {
            seed.extend(record(*offset, data));
        }
        seeds.add("btrfs_checksums", seed);
    }
}

fn of_superblock(seeds: &mut Seeds, fs: &FileSystem, device: &Path) {
    let file = File::open(device).unwrap();
    assert!(file.metadata().unwrap().size() > 1 << 20);
    let mut block = [0; 4096];
    file.read_exact_at(&mut block, 64 << 10).unwrap();
    let uuid = device_info(fs.top.as_fd(), 1).unwrap().uuid;
    for id in [1u64, 2] {
        seeds.add(
            "btrfs_superblock",
            [&id.to_le_bytes(), &uuid[..], &block].concat(),
        );
    }
}
