//! The names in a merged directory.

use rustix::io::Errno;

use super::fuse::{self, Entry};
use super::node::Part;
use super::{OverlayPair, UPPER};
use crate::measure::{Names, Trouble};

/// Names that one call of `list` adds at most, give or take one read.
const LIST_PORTION: usize = 65_536;

/// Tries to read a directory that holds still meanwhile.
const LIST_TRIES: usize = 5;

/// Where a listing of merged directories stands.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor {
    /// Which of the directories.
    part: usize,
    /// Position in it.
    offset: u64,
    /// When it last changed, as of the first portion.
    ctime: Option<plimsoll_core::model::Timestamp>,
    /// Portions read of it so far.
    portions: usize,
    /// Times it was begun anew because it changed meanwhile.
    tries: usize,
}

impl OverlayPair<'_> {
    /// Adds the names of `parts` from the cursor on, each name once.
    pub(super) fn list_parts(
        &mut self,
        parts: &[&Part],
        cursor: &mut Cursor,
        out: &mut Names,
    ) -> Result<bool, Trouble> {
        let full = out.len() + LIST_PORTION;
        while let Some(part) = parts.get(cursor.part) {
            let start = out.len();
            let more = self.list_part(parts, cursor, out, full)?;
            // A first portion can be thrown away still; what came before it was told already.
            if part.layer == UPPER && !self.at_rest && (!more || cursor.portions == 1) {
                let moves = part.dir.stat_self()?.ctime != cursor.ctime.unwrap_or(part.stat.ctime);
                if moves && cursor.portions > 1 {
                    return Err(Trouble("it changed while it was being read".into()));
                }
                if moves {
                    cursor.tries += 1;
                    if cursor.tries > LIST_TRIES {
                        return Err(Trouble(
                            "it changes all the time, also while it is being read".into(),
                        ));
                    }
                    out.truncate(start);
                    *cursor = Cursor {
                        part: cursor.part,
                        tries: cursor.tries,
                        ..Cursor::default()
                    };
                    continue;
                }
            }
            if !more {
                *cursor = Cursor {
                    part: cursor.part + 1,
                    ..Cursor::default()
                };
            }
            if out.len() >= full {
                return Ok(cursor.part < parts.len());
            }
        }
        Ok(false)
    }

    /// Adds names of the part that the cursor is in, until its end or until there are `full`.
    fn list_part(
        &mut self,
        parts: &[&Part],
        cursor: &mut Cursor,
        out: &mut Names,
        full: usize,
    ) -> Result<bool, Trouble> {
        let Some((part, above)) = parts.get(cursor.part).zip(parts.get(..cursor.part)) else {
            return Ok(false);
        };
        if cursor.ctime.is_none() && part.layer == UPPER {
            // At the first try it is taken to be as it was when it was opened.
            cursor.ctime = Some(match cursor.tries {
                0 => part.stat.ctime,
                _ => part.dir.stat_self()?.ctime,
            });
        }
        cursor.portions += 1;
        let mut reader = part.dir.reader(cursor.offset)?;
        let is_fuse = self.marks.are_fuse();
        loop {
            let mut trouble = None;
            let more = reader.next_portion(|name| {
                let told = match is_fuse {
                    true => told_by_fuse(part, above, name),
                    false => is_in_any(above, name).map(|known| [None, (!known).then_some(name)]),
                };
                self.entries_read += 1;
                match told {
                    Ok(names) => names.into_iter().flatten().for_each(|name| out.push(name)),
                    Err(of_this) => trouble = Some(of_this),
                }
            })?;
            if let Some(trouble) = trouble {
                return Err(trouble);
            }
            cursor.offset = reader.offset();
            if !more || out.len() >= full {
                return Ok(more);
            }
        }
    }
}

/// Whether one of the directories has an entry of this name.
fn is_in_any(parts: &[&Part], name: &[u8]) -> Result<bool, Trouble> {
    for part in parts {
        match part.dir.stat(name) {
            Ok(_) => return Ok(true),
            Err(Errno::NOENT | Errno::NAMETOOLONG) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

/// Returns the names by which an entry of a directory of fuse-overlayfs is told, unless one of the directories
/// `above` it told them already: itself, or what it says is gone. One of the container's own layer that only
/// looks like a mark is told as well.
///
/// A name that stands beside the mark that it is gone is told once.
fn told_by_fuse<'n>(
    part: &Part,
    above: &[&Part],
    name: &'n [u8],
) -> Result<[Option<&'n [u8]>; 2], Trouble> {
    let entry = Entry::of(name);
    let is_made_up = || match part.dir.stat(name) {
        Ok(stat) => Ok(!fuse::is_of_program(name, &stat)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(Trouble::from(errno)),
    };
    let is_named = matches!(entry, Entry::Named(_));
    let made_up = (part.layer == UPPER && !is_named && is_made_up()?).then_some(name);
    let (name, beside) = match entry {
        Entry::Hidden => return Ok([made_up, None]),
        Entry::Named(name) => (name, false),
        Entry::Gone(name) => (name, is_in_any(&[part], name)?),
    };
    let mark = [fuse::MARK, name].concat();
    let known = beside || is_in_any(above, name)? || is_in_any(above, &mark)?;
    Ok([made_up, (!known).then_some(name)])
}
