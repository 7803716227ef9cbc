//! The index of the work directory: hard links that were written to.
//!
//! With `index=on` or `nfs_export=on`, a write through one name of a lower file with several names
//! changes all of them, and only the written name gets an entry in upper. What the others show is the
//! file of the index that is named after the file handle of the lower inode
//! (`ovl_get_index_name` in `fs/overlayfs/namei.c`).

use std::collections::HashMap;
use std::sync::Arc;

use plimsoll_core::model::FileType;
use rustix::io::Errno;

use crate::fs::{Dir, Stat};
use crate::layers::Layer;
use crate::measure::Trouble;

/// The entries of an index, by the inode number of the lower file.
#[derive(Debug, Default)]
pub(super) struct Index {
    dir: Option<Arc<Dir>>,
    entries: HashMap<u64, Box<[u8]>>,
    dev: (u32, u32),
}

impl Index {
    /// Reads an index.
    pub(super) fn read(dir: &Arc<Dir>) -> Result<Self, Trouble> {
        let mut names: Vec<Box<[u8]>> = Vec::new();
        let mut reader = dir.reader(0)?;
        while reader.next_portion(|name| names.push(name.into()))? {}
        let mut entries = HashMap::new();
        for name in names {
            let stat = match dir.stat(&name) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            // Directories are there for NFS; a whiteout stands for a file without names.
            if stat.file_type == FileType::Directory
                || stat.is_whiteout_device()
                || name.first() == Some(&b'#')
            {
                continue;
            }
            let inode = inode_of(&name).ok_or_else(|| {
                Trouble(format!(
                    "the index of the work directory holds a file handle of an unknown kind: {}",
                    plimsoll_core::model::escape(&name)
                ))
            })?;
            entries.insert(inode, name);
        }
        let dev = dir.stat_self()?.dev;
        Ok(Self {
            dir: Some(Arc::clone(dir)),
            entries,
            dev,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Inode numbers tell files apart within one file system only.
    pub(super) fn require_one_file_system(&self, layers: &[&Layer]) -> Result<(), Trouble> {
        for layer in layers {
            if layer.dir.stat_self()?.dev != self.dev {
                return Err(Trouble(
                    "the work directory has an index, and the layers lie on several file systems: which files it is about cannot be told".into(),
                ));
            }
        }
        Ok(())
    }

    /// Returns the entry that stands for a lower file, if there is one.
    pub(super) fn entry_of(&self, lower: &Stat) -> Option<(Arc<Dir>, Box<[u8]>)> {
        let name = self.entries.get(&lower.ino)?;
        Some((Arc::clone(self.dir.as_ref()?), name.clone()))
    }
}

/// Decodes the name of an index entry: `struct ovl_fb` in hexadecimal (kernel
/// `fs/overlayfs/overlayfs.h`): version, magic, length, flags, type of the handle, UUID, handle.
/// Returns the inode number that the handle holds.
pub(super) fn inode_of(name: &[u8]) -> Option<u64> {
    const MAGIC: u8 = 0xfb;
    const BIG_ENDIAN: u8 = 1;
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let bytes: Vec<u8> = name
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let [_version, MAGIC, _length, flags, kind, rest @ ..] = &bytes[..] else {
        return None;
    };
    let handle = rest.get(16..)?;
    if (flags & BIG_ENDIAN != 0) != cfg!(target_endian = "big") {
        return None;
    }
    match kind {
        // FILEID_INO32_GEN and its form with a parent: ext4 and most others.
        1 | 2 => Some(u64::from(u32::from_ne_bytes(
            handle.get(..4)?.try_into().ok()?,
        ))),
        // FILEID_INO64_GEN and its form with a parent (XFS); FILEID_BTRFS_*.
        0x81 | 0x82 | 0x4d | 0x4e | 0x4f => {
            Some(u64::from_ne_bytes(handle.get(..8)?.try_into().ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::inode_of;

    #[test]
    fn names_of_index_entries() {
        // As seen on ext4: inode 13, generation 0x5af1eefe.
        let name = format!("00fb1d0001{}0d000000feeef15a", "11".repeat(16));
        assert_eq!(inode_of(name.as_bytes()), Some(13));
        for bad in [
            &b""[..],
            b"zz",
            b"00fb1d00",
            b"00fb1d0001",
            b"00aa1d0001111111111111111111111111111111110d000000",
        ] {
            assert_eq!(inode_of(bad), None);
        }
    }
}
