//! What several looks at a container that did not stand still agree on.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use plimsoll_core::model::{Aspect, Aspects, Change, ChangeKind, Gap, RootPath};

use super::outcome::Outcome;

/// Looks that are taken at most.
pub(super) const LOOKS: usize = 4;

/// Collects looks, of which the last one is told.
///
/// What it says of a path that stood still is true, whatever earlier ones said. Of a path that moved,
/// only this is told: that its content differs and nothing else does, when every look said so. Of any
/// other it is not known that it ever was as it looked: it could not be held still.
///
/// There may be as many changes as the image has files, and another look finds as many again: of those before
/// only what they are compared by is kept, packed.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    told: Told,
    looks: usize,
    disputed: BTreeSet<RootPath>,
}

impl Agreement {
    /// Adds a look. `moved` says whether a path changed while it was taken.
    pub(super) fn add(
        &mut self,
        look: &Outcome,
        mut moved: impl FnMut(&RootPath, ChangeKind) -> bool,
    ) {
        let mut told = Told::default();
        // What was added was seen, at one moment at least.
        let of_image = |change: &&Change| change.kind != ChangeKind::Added;
        for change in look.changes.iter().filter(of_image) {
            let moved = moved(&change.path, change.kind);
            let said = (change.kind, counted(change.aspects), moved);
            told.push(change.path.as_bytes(), said);
        }
        if self.looks > 0 {
            let disputed = &mut self.disputed;
            self.told
                .differences(&told, |path| disputed.extend(RootPath::parse(path)));
        }
        self.looks += 1;
        self.told = told;
    }

    /// Returns what is true of the look that was added last, during which something moved as well, and a gap for
    /// each path that could not be held still.
    pub(super) fn conclude(self, last: Outcome) -> Outcome {
        let mut outcome = last;
        let mut open = self.disputed;
        let content = Aspects::from_iter([Aspect::Content]);
        let mut told = self.told.read();
        while let Some((kind, aspects, moved)) = told.advance() {
            let content_alone = kind == ChangeKind::Changed && aspects == content;
            // It was a path when it was packed.
            let Ok(path) = RootPath::parse(&told.path) else {
                continue;
            };
            if !moved {
                open.remove(&path);
            } else if !content_alone {
                open.insert(path);
            }
        }
        outcome
            .changes
            .retain(|change| change.kind == ChangeKind::Added || !open.contains(&change.path));
        let why = "it changes all the time: it could not be held still";
        let gaps = open.iter().map(|path| Gap::new(path.as_bytes(), why));
        outcome.gaps.extend(gaps);
        outcome
    }
}

/// What a look says of a path: what happened to it, in which respects, and whether it moved meanwhile.
type Said = (ChangeKind, Aspects, bool);

/// What a look says of paths that the image has, in their order.
#[derive(Debug, Default)]
struct Told {
    /// Of each path how many bytes it has in common with the one before, how many follow, and these.
    paths: Vec<u8>,
    last: Vec<u8>,
    said: Vec<Said>,
}

impl Told {
    fn push(&mut self, path: &[u8], said: Said) {
        let pairs = self.last.iter().zip(path);
        let common = pairs.take_while(|(a, b)| a == b).count();
        let common = u16::try_from(common).unwrap_or(u16::MAX);
        let (_, rest) = path.split_at(usize::from(common));
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        self.paths.extend_from_slice(&common.to_le_bytes());
        self.paths.extend_from_slice(&length.to_le_bytes());
        self.paths.extend_from_slice(rest);
        self.last.truncate(usize::from(common));
        self.last.extend_from_slice(rest);
        self.said.push(said);
    }

    fn read(&self) -> Reader<'_> {
        Reader {
            packed: &self.paths,
            path: Vec::new(),
            said: self.said.iter(),
        }
    }

    /// Gives each path of which another look said something else, or one of the two nothing.
    fn differences(&self, other: &Self, mut each: impl FnMut(&[u8])) {
        let (mut ours, mut theirs) = (self.read(), other.read());
        let (mut our, mut their) = (ours.advance(), theirs.advance());
        loop {
            let order = match (our, their) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), Some(_)) => ours.path.cmp(&theirs.path),
            };
            let is_same = match (order, our, their) {
                (Ordering::Equal, Some((a, b, _)), Some((c, d, _))) => (a, b) == (c, d),
                _ => false,
            };
            if !is_same {
                each(match order {
                    Ordering::Greater => &theirs.path,
                    _ => &ours.path,
                });
            }
            if order != Ordering::Greater {
                our = ours.advance();
            }
            if order != Ordering::Less {
                their = theirs.advance();
            }
        }
    }
}

/// Unpacks what was told, path by path.
struct Reader<'t> {
    packed: &'t [u8],
    path: Vec<u8>,
    said: std::slice::Iter<'t, Said>,
}

impl Reader<'_> {
    /// Goes on to the next path, and returns what was said of it.
    fn advance(&mut self) -> Option<Said> {
        let (common, rest) = self.packed.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (own, rest) = rest.split_at_checked(length)?;
        self.path.truncate(usize::from(u16::from_le_bytes(*common)));
        self.path.extend_from_slice(own);
        self.packed = rest;
        self.said.next().copied()
    }
}

/// The aspects that make a change.
fn counted(aspects: Aspects) -> Aspects {
    let is_change = |aspect: &Aspect| Aspects::from_iter([*aspect]).is_change();
    aspects.iter().filter(is_change).collect()
}

#[cfg(test)]
mod tests {
    use plimsoll_core::model::{Attributes, Change, FileType, Sides, Timestamp};

    use super::*;

    fn look(changes: &[(&str, ChangeKind, &[Aspect])]) -> Outcome {
        let attributes = Attributes {
            file_type: FileType::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Timestamp {
                seconds: 0,
                nanoseconds: 0,
            },
            links: 1,
            device: None,
            target: None,
            immutable: false,
            append_only: false,
        };
        let changes = changes.iter().map(|(path, kind, aspects)| Change {
            aspects: aspects.iter().copied().collect::<Aspects>(),
            sides: Sides::new((*kind != ChangeKind::Added).then_some(&attributes), None),
            ..Change::new(RootPath::parse(path.as_bytes()).unwrap(), *kind)
        });
        Outcome {
            changes: changes.collect(),
            ..Outcome::default()
        }
    }

    fn shown(outcome: &Outcome) -> (String, String) {
        let changes: Vec<String> = outcome.changes.iter().map(|c| c.path.to_string()).collect();
        let gaps: Vec<String> = outcome.gaps.iter().map(|g| g.what.to_string()).collect();
        (changes.join(" "), gaps.join(" "))
    }

    #[test]
    fn paths_are_what_they_were_before_they_were_packed() {
        let long = "/".to_owned() + &"x".repeat(70_000);
        let longer = long.clone() + "/a";
        let paths = ["/", "/a", "/a/b", "/a/bc", "/b", &long, &longer, "/y"];
        let mut told = Told::default();
        for (at, path) in paths.iter().enumerate() {
            let said = (ChangeKind::Changed, Aspects::NONE, at % 2 == 0);
            told.push(path.as_bytes(), said);
        }
        let mut reader = told.read();
        for (at, path) in paths.iter().enumerate() {
            assert_eq!(reader.advance().unwrap().2, at % 2 == 0);
            assert_eq!(reader.path, path.as_bytes());
        }
        assert!(reader.advance().is_none());
    }

    #[test]
    fn only_what_is_known() {
        use Aspect::{Content, Mode, Times};
        use ChangeKind::{Added, Changed, Deleted};
        let first = look(&[
            ("/content", Changed, &[Content, Times]),
            ("/disputed", Changed, &[Mode]),
            ("/gone", Deleted, &[]),
            ("/mixed", Changed, &[Content, Mode]),
            ("/new", Added, &[]),
            ("/still", Changed, &[Mode]),
        ]);
        let second = look(&[
            ("/content", Changed, &[Content]),
            ("/disputed", Changed, &[Content]),
            ("/mixed", Changed, &[Content, Mode]),
            ("/newer", Added, &[]),
            ("/still", Changed, &[Content, Mode]),
        ]);
        let moved = |path: &RootPath, _| path.as_bytes() != b"/still";
        let mut agreement = Agreement::default();
        agreement.add(&first, moved);
        agreement.add(&second, moved);
        let (changes, gaps) = shown(&agreement.conclude(second));
        assert_eq!(changes, "/content /newer /still");
        assert_eq!(gaps, "/disputed /gone /mixed");
    }
}
