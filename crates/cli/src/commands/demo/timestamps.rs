//! What a comparison by timestamps tells: the rule of `docker diff`, here to be shown to fail.
//!
//! moby `pkg/archive/changes_unix.go`, `statDifferent`: mode, owner, device number, and for what is
//! no directory size and modification time; and the file capability (`changes.go`).

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Returns the letter of `docker diff` for each path that it would list, without the directories
/// that it lists for holding one.
pub(super) fn compare(image: &Path, container: &Path) -> io::Result<BTreeMap<String, char>> {
    let mut changes = BTreeMap::new();
    beneath(image, container, "", &mut changes)?;
    Ok(changes)
}

fn beneath(
    image: &Path,
    container: &Path,
    prefix: &str,
    changes: &mut BTreeMap<String, char>,
) -> io::Result<()> {
    let mut names: Vec<_> = fs::read_dir(image)?
        .chain(fs::read_dir(container)?)
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<_>>()?;
    names.sort();
    names.dedup();
    for name in names {
        let shown = format!("{prefix}/{}", name.display());
        let (image, container) = (image.join(&name), container.join(&name));
        match (stat(&image)?, stat(&container)?) {
            (None, Some(_)) => {
                changes.insert(shown, 'A');
            }
            (Some(_), None) => {
                changes.insert(shown, 'D');
            }
            (Some(before), Some(after)) => {
                if before.is_dir() && after.is_dir() {
                    beneath(&image, &container, &shown, changes)?;
                }
                if differ(&before, &after) || capability(&image) != capability(&container) {
                    changes.insert(shown, 'C');
                }
            }
            (None, None) => {}
        }
    }
    Ok(())
}

fn stat(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn differ(before: &Metadata, after: &Metadata) -> bool {
    let attributes = |m: &Metadata| (m.mode(), m.uid(), m.gid(), m.rdev());
    let times = |m: &Metadata| (m.size(), m.mtime(), m.mtime_nsec());
    attributes(before) != attributes(after) || !before.is_dir() && times(before) != times(after)
}

fn capability(path: &Path) -> Option<Vec<u8>> {
    let mut value = vec![0; 64];
    let length = rustix::fs::lgetxattr(path, "security.capability", &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}
