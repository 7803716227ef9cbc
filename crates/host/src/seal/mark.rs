//! What is noted of a layer: only somebody who writes to the raw disk, or sets the clock back, can change
//! the layer and leave it.

use std::os::fd::AsFd as _;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use plimsoll_core::model::Timestamp;
use plimsoll_syscall::btrfs::tree_of;

use super::entries::{self, Entries};
use super::items::{self, Items};
use super::{Hash, Unsealable};
use crate::fs::Dir;
use crate::fs::btrfs::{ROOT_DIRECTORY, Trees};

/// How far the clock that change times are taken from may lag behind: it moves once a tick, of which
/// there are 100 a second at least (`CONFIG_HZ`).
pub(super) const TICK: Duration = Duration::from_millis(20);

/// Longest time that is waited for a layer that was touched just now.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the files of a layer lie.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'p> {
    /// In a directory that may be opened.
    Directory(&'p Dir),
    /// In a subvolume, read through a directory of the same file system.
    Subvolume(&'p Dir, u64),
}

/// What is noted of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// The digest of what its entries keep.
    Entries(Hash),
    /// What Btrfs keeps of its subvolume.
    Subvolume(Items),
}

impl<'p> Place<'p> {
    /// Returns the place of a whole tree: a subvolume is one by itself.
    pub(super) fn of_tree(dir: &'p Dir) -> Self {
        let is_root = dir.stat_self().is_ok_and(|stat| stat.ino == ROOT_DIRECTORY);
        match is_root.then(|| tree_of(dir.as_fd())) {
            Some(Ok(id)) => Self::Subvolume(dir, id),
            _ => Self::Directory(dir),
        }
    }

    /// Notes a layer that is about to be verified.
    ///
    /// # Errors
    /// [`Unsealable`] where a change could come to pass unseen.
    pub(super) fn note(self) -> Result<Mark, Unsealable> {
        match self {
            Self::Subvolume(anchor, id) => {
                items::read(&mut Trees::new(anchor), id).map(Mark::Subvolume)
            }
            Self::Directory(dir) => {
                // A page that is dirty already can be stored to without any time moving: writing it out
                // protects it again (`folio_clear_dirty_for_io` in the kernel's `mm/page-writeback.c`).
                rustix::fs::syncfs(dir).map_err(Unsealable::Flush)?;
                let begun = SystemTime::now();
                let Entries { digest, touched } = entries::read(dir, true)?;
                match older(touched, begun) {
                    Age::Settled => return Ok(Mark::Entries(digest)),
                    Age::Fresh(rest) => sleep(rest),
                    Age::Future => return Err(Unsealable::Clock(touched)),
                }
                let begun = SystemTime::now();
                let Entries { digest, touched } = entries::read(dir, true)?;
                match older(touched, begun) {
                    Age::Settled => Ok(Mark::Entries(digest)),
                    Age::Fresh(_) | Age::Future => Err(Unsealable::Busy),
                }
            }
        }
    }

    /// Whether a layer is as it was noted.
    ///
    /// # Errors
    /// [`Unsealable`] when it cannot be told.
    pub(super) fn holds(self, mark: &Mark) -> Result<bool, Unsealable> {
        match (self, mark) {
            (Self::Directory(dir), Mark::Entries(digest)) => {
                Ok(entries::read(dir, false)?.digest == *digest)
            }
            (Self::Subvolume(anchor, id), Mark::Subvolume(sealed)) if sealed.id == id => {
                items::hold(&mut Trees::new(anchor), sealed)
            }
            _ => Ok(false),
        }
    }
}

/// How long ago something was touched.
enum Age {
    /// Long enough for the next change to get another time.
    Settled,
    /// Not yet: it will be after this time.
    Fresh(Duration),
    /// It is said to have been later than now.
    Future,
}

fn older(touched: Timestamp, than: SystemTime) -> Age {
    let seconds = Duration::from_secs(touched.seconds.unsigned_abs());
    let nanoseconds = Duration::from_nanos(touched.nanoseconds.into());
    let touched = match touched.seconds {
        0.. => SystemTime::UNIX_EPOCH + seconds + nanoseconds,
        _ => SystemTime::UNIX_EPOCH - seconds + nanoseconds,
    };
    match than.duration_since(touched) {
        Ok(age) if age > TICK => Age::Settled,
        Ok(age) => Age::Fresh(TICK.saturating_sub(age) + Duration::from_millis(1)),
        Err(error) if error.duration() < PATIENCE => Age::Fresh(error.duration() + 2 * TICK),
        Err(_) => Age::Future,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_touched_just_now_is_waited_for() {
        let now = SystemTime::UNIX_EPOCH + Duration::new(1000, 500_000_000);
        let at = |seconds, nanoseconds| {
            let touched = Timestamp {
                seconds,
                nanoseconds,
            };
            older(touched, now)
        };
        assert!(matches!(at(1000, 400_000_000), Age::Settled));
        assert!(matches!(at(-5, 0), Age::Settled));
        assert!(matches!(at(1000, 490_000_000), Age::Fresh(rest) if rest < TICK));
        assert!(matches!(at(1001, 0), Age::Fresh(_)));
        assert!(matches!(at(1003, 0), Age::Future));
    }
}
