//! What fuse-overlayfs marks entries with, by its `main.c` and `utils.c` (1.10 to 1.16).
//!
//! A directory is opaque by the first of three attributes that it has (`is_directory_opaque`), else by a
//! file in it. A name is gone by a device 0:0, as with the kernel, or by a file beside it whose name begins
//! with `.wh.`, whatever that file is (`load_dir`, `do_lookup_file`); names that begin so are shown to
//! nobody. containers/storage unpacks the layers of an image in the second form (`getWhiteoutFormat`).
//!
//! A process in the container can make such a name all the same, by mkdir(2), rename(2), link(2),
//! symlink(2) or mknod(2), and sees it as long as the program holds it in memory. So what the container's
//! own layer has by such a name is a mark only where it is as the program makes it.

use plimsoll_core::model::{FileType, escape};
use rustix::io::Errno;

use super::marks::split;
use super::node::{Leaf, Node, Part};
use super::{OverlayPair, UPPER};
use crate::fs::{Dir, Stat};
use crate::measure::Trouble;

/// How the names begin of the files that are marks.
pub(crate) const MARK: &[u8] = b".wh.";

/// The file that makes its directory opaque.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";

/// What the program leaves beside that at times, as a device: a mark for the name that it takes the other
/// mark for.
const OPAQUE_TWIN: &[u8] = b".wh..opq";

/// Names of the attributes that make a directory opaque, in the order in which they are asked for.
const OPAQUE_ATTRIBUTES: [&[u8]; 3] = [
    b"trusted.overlay.opaque",
    b"user.overlay.opaque",
    b"user.fuseoverlayfs.opaque",
];

/// Longest value of one that the program reads.
const OPAQUE_MAX: usize = 16;

/// Where a copy has the path of its original, ended by a NUL byte.
const ORIGIN: &[u8] = b"user.fuseoverlayfs.origin";

/// Prefixes of the attributes that are shown to nobody (`can_access_xattr`).
const HIDDEN: [&[u8]; 3] = [
    b"user.fuseoverlayfs.",
    b"trusted.overlay.",
    b"user.overlay.",
];

const TRUSTED: &[u8] = b"trusted.";

/// What the attributes of an entry say.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// Whether it is opaque, where they say.
    pub(super) opaque: Option<bool>,
    /// The path of its original.
    pub(super) origin: Option<Box<[u8]>>,
}

/// Decodes the marks of an object of this type from the names of its attributes, each ended by a NUL byte;
/// `value` reads one. `trusted` is whether the program sees those of `trusted.`.
pub(super) fn decode(
    names: &[u8],
    file_type: FileType,
    trusted: bool,
    mut value: impl FnMut(&[u8]) -> Result<Option<Vec<u8>>, Trouble>,
) -> Result<Decoded, Trouble> {
    let mut decoded = Decoded::default();
    let has = |name: &[u8]| split(names).any(|one| one == name);
    if file_type == FileType::Directory {
        let asked = OPAQUE_ATTRIBUTES
            .iter()
            .filter(|name| trusted || !name.starts_with(TRUSTED));
        for name in asked.filter(|name| has(name)) {
            let Some(value) = value(name)? else {
                continue;
            };
            decoded.opaque = match value.first() {
                Some(first) if value.len() <= OPAQUE_MAX => Some(*first == b'y'),
                _ => {
                    return Err(Trouble(format!(
                        "its mark {} has a value that fuse-overlayfs cannot read",
                        escape(name)
                    )));
                }
            };
            break;
        }
    } else if file_type == FileType::File && has(ORIGIN) {
        decoded.origin = value(ORIGIN)?.map(|path| {
            let path = path.strip_suffix(b"\0").unwrap_or(&path);
            path.into()
        });
    }
    Ok(decoded)
}

/// Whether a process in the container sees an attribute of this name.
pub(super) fn is_shown(attribute: &[u8], trusted: bool) -> bool {
    let hidden = HIDDEN.iter().any(|prefix| attribute.starts_with(prefix));
    !hidden && (trusted || !attribute.starts_with(TRUSTED))
}

/// Whether a directory has the file that makes it opaque; an empty `name` means `dir` itself.
pub(super) fn has_opaque(dir: &Dir, name: &[u8]) -> Result<bool, Trouble> {
    Ok(match name {
        b"" => exists(dir, OPAQUE)?.is_some(),
        name => exists(&dir.child(name)?, OPAQUE)?.is_some(),
    })
}

/// Whether a directory of a layer has a mark that says that a name is gone.
pub(super) fn hides(dir: &Dir, name: &[u8]) -> Result<bool, Trouble> {
    let mark = [MARK, name].concat();
    if exists(dir, &mark)?.is_none() {
        return Ok(false);
    }
    // A mark that is itself marked as gone counts where a name is looked up, and not where the directory was
    // listed before.
    if mark != OPAQUE_TWIN && exists(dir, &[MARK, &mark].concat())?.is_some() {
        return Err(Trouble(format!(
            "its layer has the mark {} and one that takes that away: what fuse-overlayfs shows depends on what it was asked before",
            escape(&mark)
        )));
    }
    Ok(true)
}

fn exists(dir: &Dir, name: &[u8]) -> Result<Option<Stat>, Trouble> {
    match dir.stat(name) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// What an entry of a directory of a layer is to its listing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry<'n> {
    /// An entry of this name.
    Named(&'n [u8]),
    /// A mark that says that this name is gone.
    Gone(&'n [u8]),
    /// A mark of another kind, or what nobody sees.
    Hidden,
}

impl<'n> Entry<'n> {
    /// Tells by its name what an entry is.
    pub(super) fn of(name: &'n [u8]) -> Self {
        match name.strip_prefix(MARK) {
            None => Self::Named(name),
            // What such a mark says is gone, nobody sees anyway.
            Some(gone) if gone.is_empty() || gone.starts_with(MARK) => Self::Hidden,
            Some(gone) => Self::Gone(gone),
        }
    }
}

/// Whether an entry of the container's own layer whose name begins as a mark is as the program makes it: an
/// empty file, but for the one device.
pub(super) fn is_of_program(name: &[u8], stat: &Stat) -> bool {
    let plain = stat.file_type == FileType::File && stat.size == 0;
    match Entry::of(name) {
        Entry::Named(_) => true,
        Entry::Gone(_) => plain || name == OPAQUE_TWIN && stat.is_whiteout_device(),
        Entry::Hidden => plain && name == OPAQUE,
    }
}

/// The trouble with an entry of the container's own layer that is not.
fn not_of_program(name: &[u8]) -> Trouble {
    Trouble(format!(
        "its layer has {} there, which fuse-overlayfs takes for a mark and never makes so: a process in the container made it, and sees it until the container is started again",
        escape(name)
    ))
}

impl OverlayPair<'_> {
    /// Requires of a name of which nothing is seen that the container's own layer has it by no mark, by one
    /// that the program made, or not at all. It makes them for what a layer beneath has.
    pub(super) fn require_of_program(&self, parts: &[Part], name: &[u8]) -> Result<(), Trouble> {
        let Some((upper, lowers)) = parts.split_first().filter(|(top, _)| top.layer == UPPER)
        else {
            return Ok(());
        };
        if name.starts_with(MARK) {
            return match exists(&upper.dir, name)? {
                Some(stat) if !is_of_program(name, &stat) => Err(not_of_program(name)),
                _ => Ok(()),
            };
        }
        let mark = [MARK, name].concat();
        if mark == OPAQUE_TWIN || exists(&upper.dir, &mark)?.is_none() {
            return Ok(());
        }
        // It takes a mark away when it makes what the mark says is gone.
        let beside = exists(&upper.dir, name)?;
        if beside.is_none_or(|stat| stat.is_whiteout_device()) {
            for lower in lowers {
                if exists(&lower.dir, name)?.is_some() || exists(&lower.dir, &mark)?.is_some() {
                    return Ok(());
                }
            }
        }
        Err(not_of_program(&mark))
    }

    /// Why it cannot be told what a process sees of an object of the container's side, or of others by it.
    pub(super) fn doubt_of_fuse(
        &self,
        image: Option<&Node>,
        container: &Node,
    ) -> Result<Option<Trouble>, Trouble> {
        match (image, container) {
            (_, Node::Dir { parts, .. }) => {
                let top = parts.first().filter(|top| top.layer == UPPER);
                Ok(top.filter(|top| top.marks.denied).map(|_| {
                    Trouble("an attribute of it says that what the image has there shows through, which fuse-overlayfs never writes: a process in the container may have, and see something else until the container is started again".into())
                }))
            }
            (Some(Node::Leaf(image)), Node::Leaf(leaf))
                if leaf.layer == UPPER
                    && [image, leaf]
                        .iter()
                        .all(|leaf| leaf.stat.file_type == FileType::File)
                    && image.stat.links > 1 =>
            {
                Ok(Some(several_names(b"it")))
            }
            (_, Node::Leaf(leaf)) => self.other_names(leaf),
        }
    }

    /// Why it cannot be told what other names show than that of a copy.
    ///
    /// The program gives a copy the number of its original, so that all names of the original are one file
    /// to whoever uses them: which copy of the bytes they show, and which name a copy was made by, follows
    /// from the order in which they were asked for (`register_inode`, `inode_to_node`).
    fn other_names(&self, leaf: &Leaf) -> Result<Option<Trouble>, Trouble> {
        let Some(origin) = leaf.marks.origin.as_deref().filter(|_| leaf.layer == UPPER) else {
            return Ok(None);
        };
        let path = origin.strip_prefix(b".").unwrap_or(origin);
        let start = path.iter().position(|b| *b != b'/').unwrap_or(path.len());
        let path = path.get(start..).unwrap_or_default();
        let (parent, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(slash) => (path.get(..slash), path.get(slash + 1..)),
            None => (Some(&b"."[..]), Some(path)),
        };
        let (parent, name) = (parent.unwrap_or_default(), name.unwrap_or_default());
        if name.is_empty() {
            return Ok(None);
        }
        for layer in self.layers.iter().take(self.merged).skip(UPPER + 1) {
            let dir = match layer.dir.open_beneath(parent) {
                Ok(dir) => dir,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let Some(stat) = exists(&dir, name)? else {
                continue;
            };
            let mut buffer = Vec::new();
            let mut has_origin = || {
                dir.xattr(name, ORIGIN, &mut buffer)
                    .map(|value| value.is_some())
            };
            if stat.file_type == FileType::File && (stat.links > 1 || has_origin()?) {
                return Ok(Some(several_names(path)));
            }
        }
        Ok(None)
    }
}

/// Why it cannot be told what a file of the image shows that only itself is looked at: it may show what was
/// written to another name of it.
pub(super) fn doubt_alone(leaf: &Leaf) -> Option<Trouble> {
    let several = leaf.stat.file_type == FileType::File && leaf.stat.links > 1;
    (leaf.layer != UPPER && several).then(|| several_names(b"it"))
}

fn several_names(what: &[u8]) -> Trouble {
    Trouble(format!(
        "{} has several names in the image, which fuse-overlayfs confuses once one of them is written to: what they show cannot be told from the layers",
        escape(what)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_by_their_names() {
        for (name, entry) in [
            (&b"file"[..], Entry::Named(b"file")),
            (b".wh", Entry::Named(b".wh")),
            (b"a.wh.b", Entry::Named(b"a.wh.b")),
            (b".wh.file", Entry::Gone(b"file")),
            (b".wh..hidden", Entry::Gone(b".hidden")),
            (b".wh..opq", Entry::Gone(b".opq")),
            (b".wh.", Entry::Hidden),
            (b".wh..wh..opq", Entry::Hidden),
            (b".wh..wh.file", Entry::Hidden),
        ] {
            assert_eq!(Entry::of(name), entry, "{}", escape(name));
        }
    }

    #[test]
    fn the_first_attribute_decides() {
        let all = b"trusted.overlay.opaque\0user.overlay.opaque\0user.fuseoverlayfs.opaque\0";
        let opaque = |names: &[u8], trusted, values: &[(&[u8], &[u8])]| {
            let value = |name: &[u8]| {
                let found = values.iter().find(|(of, _)| *of == name);
                Ok(found.map(|(_, value)| value.to_vec()))
            };
            decode(names, FileType::Directory, trusted, value).map(|decoded| decoded.opaque)
        };
        let [kernel, user, own] = OPAQUE_ATTRIBUTES;
        let values: [(&[u8], &[u8]); 3] = [(kernel, b"n"), (user, b"y"), (own, b"y")];
        assert_eq!(opaque(all, true, &values).unwrap(), Some(false));
        assert_eq!(opaque(all, false, &values).unwrap(), Some(true));
        assert_eq!(opaque(b"", true, &values).unwrap(), None);
        for bad in [&b""[..], b"yyyyyyyyyyyyyyyyy"] {
            assert!(opaque(all, true, &[(kernel, bad)]).is_err());
        }
        let origin = decode(b"user.fuseoverlayfs.origin\0", FileType::File, true, |_| {
            Ok(Some(b"a/b\0".to_vec()))
        });
        assert_eq!(origin.unwrap().origin.as_deref(), Some(&b"a/b"[..]));
    }

    #[test]
    fn attributes_that_nobody_sees() {
        for (name, to_root, to_user) in [
            (&b"user.overlay.x"[..], false, false),
            (b"trusted.overlay.opaque", false, false),
            (b"user.fuseoverlayfs.origin", false, false),
            (b"trusted.x", true, false),
            (b"user.containers.override_stat", true, true),
            (b"security.capability", true, true),
        ] {
            assert_eq!(
                (is_shown(name, true), is_shown(name, false)),
                (to_root, to_user)
            );
        }
    }
}
