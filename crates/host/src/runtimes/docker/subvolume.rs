//! Temporary stand-in for `layers::btrfs::subvolume`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{AtFlags, StatxFlags};

use crate::fs::Dir;
use crate::layers::Subvolume;

pub(super) fn subvolume(
    parent: &Dir,
    name: &[u8],
    path: PathBuf,
) -> Result<Subvolume, std::io::Error> {
    let mask = StatxFlags::from_bits_retain(0x8000);
    let raw = rustix::fs::statx(
        parent,
        OsStr::from_bytes(name),
        AtFlags::SYMLINK_NOFOLLOW,
        mask,
    )?;
    if raw.stx_mask & 0x8000 == 0 {
        return Err(std::io::Error::other("not a subvolume"));
    }
    Ok(Subvolume {
        id: raw.stx_subvol,
        path,
    })
}
