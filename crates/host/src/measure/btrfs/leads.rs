//! The names of directories beneath which something may differ: many, so that they are packed.

use std::cmp::Ordering;

/// Names by the directory that they are in.
#[derive(Debug, Default)]
pub(super) struct Leads {
    names: Vec<u8>,
    entries: Vec<Entry>,
}

/// A name: the number of its directory, and where it lies among the names: its start, and its length in the
/// lowest 16 bits, which are as many as it has on disk.
#[derive(Debug, Clone, Copy)]
struct Entry {
    dir: u64,
    place: u64,
}

impl Leads {
    /// Adds a name of a directory. What was added is found once it is sorted.
    pub(super) fn add(&mut self, dir: u64, name: &[u8]) {
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        let place = (self.names.len() as u64) << 16 | u64::from(length);
        self.names.extend_from_slice(name);
        self.entries.push(Entry { dir, place });
    }

    /// Makes what was added ready to be asked for.
    pub(super) fn sort(&mut self) {
        let names = std::mem::take(&mut self.names);
        let key = |entry: &Entry| (entry.dir, entry.name(&names));
        self.entries.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        self.entries.dedup_by(|a, b| key(a) == key(b));
        self.names = names;
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a directory has this name.
    pub(super) fn contains(&self, dir: u64, name: &[u8]) -> bool {
        self.entries
            .binary_search_by(|entry| self.compare(entry, dir, name))
            .is_ok()
    }

    /// Returns the names of a directory, sorted, those after `last`.
    pub(super) fn names_in(&self, dir: u64, last: Option<&[u8]>) -> impl Iterator<Item = &[u8]> {
        let first = self.entries.partition_point(|entry| match last {
            None => entry.dir < dir,
            Some(last) => self.compare(entry, dir, last) != Ordering::Greater,
        });
        let entries = self.entries.get(first..).unwrap_or_default();
        let of_dir = entries.iter().take_while(move |entry| entry.dir == dir);
        of_dir.map(|entry| entry.name(&self.names))
    }

    fn compare(&self, entry: &Entry, dir: u64, name: &[u8]) -> Ordering {
        (entry.dir, entry.name(&self.names)).cmp(&(dir, name))
    }
}

impl Entry {
    fn name<'n>(&self, names: &'n [u8]) -> &'n [u8] {
        let start = usize::try_from(self.place >> 16).unwrap_or(usize::MAX);
        let length = usize::from((self.place & 0xffff) as u16);
        let name = names.get(start..start.saturating_add(length));
        name.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_their_directory_alone() {
        let mut leads = Leads::default();
        for (dir, name) in [(7, "b"), (5, "b"), (7, "a"), (7, "b"), (7, "ab"), (9, "")] {
            leads.add(dir, name.as_bytes());
        }
        leads.sort();
        let names = |dir, last: Option<&str>| {
            let names = leads.names_in(dir, last.map(str::as_bytes));
            let names: Vec<_> = names.map(|name| str::from_utf8(name).unwrap()).collect();
            names.join(" ")
        };
        assert_eq!(names(7, None), "a ab b");
        assert_eq!(names(7, Some("a")), "ab b");
        assert_eq!(names(7, Some("aa")), "ab b");
        assert_eq!(names(7, Some("b")), "");
        assert_eq!(names(5, None), "b");
        assert_eq!(names(6, None), "");
        assert!(leads.contains(7, b"ab") && leads.contains(9, b""));
        assert!(!leads.contains(5, b"a") && !leads.contains(8, b"b"));
    }
}
