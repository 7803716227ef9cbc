//! What several looks at a container that did not stand still agree on.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_core::model::{Aspect, Aspects, ChangeKind, Gap, RootPath};

use super::outcome::Outcome;

/// Looks that are taken at most.
pub(super) const LOOKS: usize = 4;

/// Collects looks, of which the last one is told.
///
/// What it says of a path that stood still is true, whatever earlier ones said. Of a path that moved,
/// only this is told: that its content differs and nothing else does, when every look said so. Of any
/// other it is not known that it ever was as it looked: it could not be held still.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    last: Outcome,
    told: Told,
    looks: usize,
    disputed: BTreeSet<RootPath>,
}

/// What a look says of paths that the image has, and whether they moved meanwhile. What was added was
/// seen, at one moment at least.
type Told = BTreeMap<RootPath, (ChangeKind, Aspects, bool)>;

impl Agreement {
    /// Adds a look. `moved` says whether a path changed while it was taken.
    pub(super) fn add(
        &mut self,
        look: Outcome,
        mut moved: impl FnMut(&RootPath, ChangeKind) -> bool,
    ) {
        let changes = look.changes.iter();
        let told: Told = changes
            .filter(|change| change.kind != ChangeKind::Added)
            .map(|change| {
                let aspects = counted(change.aspects);
                let moved = moved(&change.path, change.kind);
                (change.path.clone(), (change.kind, aspects, moved))
            })
            .collect();
        if self.looks > 0 {
            let said =
                |told: &Told, path| told.get(path).map(|(kind, aspects, _)| (*kind, *aspects));
            let paths = self.told.keys().chain(told.keys());
            let differ = paths.filter(|path| said(&self.told, path) != said(&told, path));
            self.disputed.extend(differ.cloned());
        }
        self.looks += 1;
        self.told = told;
        self.last = look;
    }

    /// Adds a look during which nothing moved: it is the last one, and what it says is true.
    pub(super) fn settle(&mut self, look: Outcome) {
        self.last = look;
    }

    /// Returns what is true, and a gap for each path that could not be held still. With `still` nothing
    /// moved during the last look.
    pub(super) fn conclude(self, still: bool) -> Outcome {
        let mut outcome = self.last;
        if still {
            return outcome;
        }
        let mut open = self.disputed;
        let content = Aspects::from_iter([Aspect::Content]);
        for (path, (kind, aspects, moved)) in self.told {
            let content_alone = kind == ChangeKind::Changed && aspects == content;
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

    fn concluded(agreement: Agreement, still: bool) -> (String, String) {
        let outcome = agreement.conclude(still);
        let changes: Vec<String> = outcome.changes.iter().map(|c| c.path.to_string()).collect();
        let gaps: Vec<String> = outcome.gaps.iter().map(|g| g.what.to_string()).collect();
        (changes.join(" "), gaps.join(" "))
    }

    #[test]
    fn only_what_is_known() {
        use Aspect::{Content, Mode, Times};
        use ChangeKind::{Added, Changed, Deleted};
        let looks = || {
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
            let mut agreement = Agreement::default();
            let moved = |path: &RootPath, _| path.as_bytes() != b"/still";
            agreement.add(first, moved);
            agreement.add(second, moved);
            agreement
        };
        let (changes, gaps) = concluded(looks(), false);
        assert_eq!(changes, "/content /newer /still");
        assert_eq!(gaps, "/disputed /gone /mixed");
        let (changes, gaps) = concluded(looks(), true);
        assert_eq!(changes, "/content /disputed /mixed /newer /still");
        assert_eq!(gaps, "");
    }
}
