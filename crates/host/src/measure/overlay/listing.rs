//! The names in a merged directory.

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
        loop {
            let mut trouble = None;
            let more = reader.next_portion(|name| {
                let known = above.iter().any(|above| match above.dir.stat(name) {
                    Ok(_) => true,
                    Err(rustix::io::Errno::NOENT) => false,
                    Err(errno) => {
                        trouble = Some(Trouble::from(errno));
                        false
                    }
                });
                self.entries_read += 1;
                if !known {
                    out.push(name);
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
