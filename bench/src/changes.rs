//! What is done to a container, and the truth about it.

use std::collections::BTreeMap;
use std::fs::{File, FileTimes, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One thing that is done to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Kind {
    /// One byte of a file becomes another one.
    Edited,
    /// The same, and the modification time is put back.
    EditedTimePutBack,
    /// The permissions are others.
    Mode,
    /// The file is gone.
    Deleted,
    /// A file that the image does not have.
    Added,
    /// The bytes that are there are written again and the time put back: nothing differs.
    Rewritten,
}

impl Kind {
    /// What the pages call it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Edited => "same-size edits",
            Self::EditedTimePutBack => "same-size edits with the time put back",
            Self::Mode => "changed modes",
            Self::Deleted => "deleted files",
            Self::Added => "added files",
            Self::Rewritten => "files rewritten with the same bytes",
        }
    }
}

/// What was done, by path from the container's root.
pub(crate) type Truth = BTreeMap<String, Kind>;

/// Chooses `count` changes, and for each ten of them one file that is rewritten and stays the same.
/// Fewer, when the image has fewer files.
pub(crate) fn choose(candidates: &[String], count: usize, seed: u64) -> Truth {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut order: Vec<&String> = candidates.iter().collect();
    random.shuffle(&mut order);
    let count = count.min(candidates.len() * 10 / 11);
    let mut order = order.into_iter();
    let mut truth = Truth::new();
    let kinds = (0..count).map(kind);
    for (number, kind) in kinds
        .chain((0..count / 10).map(|_| Kind::Rewritten))
        .enumerate()
    {
        let path = order.next().expect("as many candidates as changes");
        let path = match kind {
            Kind::Added => {
                let (directory, _) = path.rsplit_once('/').expect("a path has a slash");
                format!("{directory}/added-{number}")
            }
            _ => path.clone(),
        };
        truth.insert(path, kind);
    }
    truth
}

/// A third of the edits put the time back. The first change, which may be the only one, does.
fn kind(number: usize) -> Kind {
    match number % 50 {
        0..=10 => Kind::EditedTimePutBack,
        11..=32 => Kind::Edited,
        33..=39 => Kind::Mode,
        40..=44 => Kind::Deleted,
        _ => Kind::Added,
    }
}

/// Does them in a tree: a container's merged directory or its subvolume, which is the file system that
/// its own processes write to.
pub(crate) fn apply(truth: &Truth, root: &Path) {
    for (path, kind) in truth {
        crate::interrupt::check();
        let path = root.join(path.trim_start_matches('/'));
        change(&path, *kind).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

fn change(path: &Path, kind: Kind) -> std::io::Result<()> {
    match kind {
        Kind::Edited => edit(path, false, flip),
        Kind::EditedTimePutBack => edit(path, true, flip),
        Kind::Rewritten => edit(path, true, |_: &mut [u8]| ()),
        Kind::Mode => {
            let mode = path.metadata()?.permissions().mode();
            std::fs::set_permissions(path, Permissions::from_mode(mode ^ 0o005))
        }
        Kind::Deleted => std::fs::remove_file(path),
        Kind::Added => std::fs::write(path, b"this was not in the image\n"),
    }
}

/// Makes one byte in the middle another one.
fn flip(bytes: &mut [u8]) {
    if let Some(byte) = bytes.get_mut(bytes.len() / 2) {
        *byte ^= 1;
    }
}

/// Writes a file's bytes over themselves, in place, changed or not.
fn edit(path: &Path, put_time_back: bool, change: impl FnOnce(&mut [u8])) -> std::io::Result<()> {
    let before = path.metadata()?;
    let mut bytes = std::fs::read(path)?;
    change(&mut bytes);
    let file: File = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(&bytes, 0)?;
    if put_time_back {
        let times = FileTimes::new()
            .set_accessed(before.accessed()?)
            .set_modified(before.modified()?);
        file.set_times(times)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("/d/f{n:05}")).collect()
    }

    #[test]
    fn the_only_change_is_an_edit_with_the_time_put_back() {
        let truth = choose(&candidates(100), 1, 1);
        assert_eq!(
            truth.into_values().collect::<Vec<_>>(),
            [Kind::EditedTimePutBack]
        );
    }

    #[test]
    fn a_third_of_the_edits_put_the_time_back() {
        let truth = choose(&candidates(2000), 1000, 1);
        let count = |kind| truth.values().filter(|k| **k == kind).count();
        assert_eq!(count(Kind::Edited), 2 * count(Kind::EditedTimePutBack));
        assert_eq!(count(Kind::Rewritten), 100);
        assert_eq!(truth.len(), 1100);
    }

    #[test]
    fn no_more_than_the_image_has() {
        assert!(choose(&candidates(1000), 10_000, 1).len() <= 1000);
    }
}
