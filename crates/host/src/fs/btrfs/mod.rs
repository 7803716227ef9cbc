//! The trees of a Btrfs file system, read through its search ioctl.

pub(crate) mod decode;
mod entries;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
#[cfg(feature = "fuzzing")]
pub(crate) mod memory;
mod nesting;
mod places;
mod runs;
mod search;
mod still;
mod touched;

pub(crate) use runs::Fresh;
pub(crate) use search::{Key, Trees};
pub(crate) use still::Still;

use rustix::io::Errno;

/// Number of the root directory of every subvolume (`BTRFS_FIRST_FREE_OBJECTID`).
pub(crate) const ROOT_DIRECTORY: u64 = 256;

/// Why a tree could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The search ioctl is refused to this process.
    #[error("reading Btrfs trees needs CAP_SYS_ADMIN in the initial user namespace: run as root")]
    NotPermitted,
    /// There is no such tree, or not any more.
    #[error("subvolume {0} is gone")]
    Gone(u64),
    /// The directory is on another kind of file system.
    #[error("this is not a Btrfs file system")]
    NotBtrfs,
    /// An item is not of any form that is known here.
    #[error("subvolume {0} holds items of a form that is not known")]
    Undecodable(u64),
    /// Anything else.
    #[error("the Btrfs trees cannot be read: {}", std::io::Error::from(*.0))]
    Io(Errno),
}
