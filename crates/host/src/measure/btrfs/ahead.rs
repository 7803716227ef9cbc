//! What was read ahead for many files at one go, in the order in which it lies on disk: one search finds
//! the checksums of many extents, and one read the bytes of many blocks.
//!
//! It holds from when it was read until it is forgotten. Whoever decides by it looks afterwards whether
//! each extent is still where it was before.

use std::collections::BTreeMap;
use std::ops::Range;

/// What lies from an address on, by that address; no two overlap.
#[derive(Debug, Default)]
pub(super) struct Ahead(BTreeMap<u64, Vec<u8>>);

impl Ahead {
    /// Adds what lies from an address on, as far as it lies in a place that is wanted; those are in their
    /// order. There are `width` bytes for each `unit` of addresses.
    pub(super) fn add_wanted(
        &mut self,
        address: u64,
        bytes: &[u8],
        wanted: &[Range<u64>],
        (unit, width): (u64, usize),
    ) {
        let units = (bytes.len() / width) as u64;
        let end = address.saturating_add(units.saturating_mul(unit));
        let first = wanted.partition_point(|place| place.end <= address);
        let wanted = wanted.get(first..).unwrap_or_default();
        for place in wanted.iter().take_while(|place| place.start < end) {
            let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            let from = place.start.saturating_sub(address) / unit;
            let upto = (place.end.min(end) - address).div_ceil(unit);
            let part = index(from).saturating_mul(width)..index(upto).saturating_mul(width);
            if let Some(part) = bytes.get(part) {
                self.0.insert(address + from * unit, part.to_vec());
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns what lies in a range of addresses, where all of it was read: `width` bytes for each `unit`
    /// of addresses.
    pub(super) fn read(&self, range: &Range<u64>, (unit, width): (u64, usize)) -> Option<Vec<u8>> {
        let mut found = Vec::new();
        let mut next = range.start;
        while next < range.end {
            let (start, bytes) = self.0.range(..=next).next_back()?;
            let index = |addresses: u64| -> Option<usize> {
                usize::try_from(addresses / unit).ok()?.checked_mul(width)
            };
            let skip = index(next - start)?;
            let wanted = index((range.end - next).next_multiple_of(unit))?;
            let have = bytes.get(skip..)?;
            // Whole ones: what is left of a torn one would shift all that follow.
            let whole = have.len() / width * width;
            let have = have.get(..wanted.min(whole))?;
            if have.is_empty() {
                return None;
            }
            found.extend_from_slice(have);
            next += (have.len() / width) as u64 * unit;
        }
        Some(found)
    }
}

/// Returns ranges that cover all of these, in their order, with those in one that are less than `gap`
/// apart, as long as it stays within `longest`.
pub(super) fn merged(mut ranges: Vec<Range<u64>>, gap: u64, longest: u64) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.end <= last.end => {}
            Some(last) if range.start < last.end => {
                let start = last.end;
                merged.push(start..range.end);
            }
            Some(last) if range.start - last.end <= gap && range.end - last.start <= longest => {
                last.end = range.end;
            }
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_found_and_nothing_else() {
        let mut ahead = Ahead::default();
        let wanted = [100..125, 130..140, 150..500];
        let mut add = |at, bytes: &[u8]| ahead.add_wanted(at, bytes, &wanted, (10, 2));
        add(80, b"99AAaabbcc");
        add(130, b"ddxx");
        add(150, b"eef");
        let read = |range: Range<u64>| ahead.read(&range, (10, 2));
        assert_eq!(read(100..110).unwrap(), b"aa");
        assert_eq!(read(110..140).unwrap(), b"bbccdd");
        assert_eq!(read(150..160).unwrap(), b"ee");
        for missing in [
            90..110,
            90..100,
            140..150,
            130..150,
            140..150,
            150..170,
            500..510,
        ] {
            assert_eq!(read(missing.clone()), None, "{missing:?}");
        }
        ahead.clear();
        assert_eq!(ahead.read(&(100..110), (10, 2)), None);
    }

    #[test]
    fn ranges_are_merged_as_far_as_they_are_near() {
        let merge = |ranges: &[(u64, u64)]| -> Vec<(u64, u64)> {
            let ranges = ranges.iter().map(|(start, end)| *start..*end).collect();
            let merged = merged(ranges, 10, 50).into_iter();
            merged.map(|range| (range.start, range.end)).collect()
        };
        assert_eq!(merge(&[(20, 25), (0, 5), (5, 10)]), [(0, 25)]);
        assert_eq!(merge(&[(0, 5), (16, 20)]), [(0, 5), (16, 20)]);
        assert_eq!(merge(&[(0, 30), (35, 60)]), [(0, 30), (35, 60)]);
        assert_eq!(merge(&[(0, 30), (10, 20), (10, 45)]), [(0, 30), (30, 45)]);
        assert_eq!(merge(&[(7, 7)]), []);
    }
}
