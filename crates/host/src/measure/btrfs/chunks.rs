//! Where in a chunk a logical address lies, on which devices.

use super::device::Unreadable;
use crate::fs::btrfs::decode::Chunk;

/// Where a logical address is on disk.
#[derive(Debug)]
pub(super) struct Copies {
    /// Device and offset on it, of each copy.
    pub(super) at: Vec<(u64, u64)>,
    /// Bytes that lie there in one piece.
    pub(super) contiguous: u64,
}

/// Returns where a place in a chunk is (`btrfs_map_block` in `fs/btrfs/volumes.c`); `None` when the
/// chunk does not reach so far.
pub(super) fn copies_in(chunk: &Chunk, at: u64) -> Option<Result<Copies, Unreadable>> {
    const RAID0: u64 = 1 << 3;
    const RAID10: u64 = 1 << 6;
    const RAID56: u64 = 1 << 7 | 1 << 8;
    let left = chunk.length.checked_sub(at).filter(|left| *left > 0)?;
    if chunk.profile & RAID56 != 0 {
        return Some(Err(Unreadable::NotSupported));
    }
    if chunk.profile & (RAID0 | RAID10) == 0 {
        // One copy, or several whole ones.
        let whole = |(device, offset): &(u64, u64)| (*device, offset.saturating_add(at));
        return Some(Ok(Copies {
            at: chunk.stripes.iter().map(whole).collect(),
            contiguous: left,
        }));
    }
    let copies = if chunk.profile & RAID10 != 0 {
        usize::from(chunk.sub_stripes).max(1)
    } else {
        1
    };
    let across = (chunk.stripes.len() / copies).max(1) as u64;
    let stripe_length = chunk.stripe_length.max(1);
    let (stripe, within) = (at / stripe_length, at % stripe_length);
    let first = usize::try_from(stripe % across).ok()? * copies;
    let offset_in = (stripe / across)
        .saturating_mul(stripe_length)
        .saturating_add(within);
    let stripes = chunk.stripes.get(first..first + copies)?;
    let place = |(device, offset): &(u64, u64)| (*device, offset.saturating_add(offset_in));
    Some(Ok(Copies {
        at: stripes.iter().map(place).collect(),
        contiguous: left.min(stripe_length - within),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(profile: u64, stripes: u64, sub_stripes: u16) -> Chunk {
        Chunk {
            length: 1 << 30,
            stripe_length: 64 << 10,
            profile,
            sub_stripes,
            stripes: (0..stripes).map(|n| (n + 1, (n + 1) << 40)).collect(),
        }
    }

    #[test]
    fn places_in_each_profile() {
        const KIB: u64 = 1 << 10;
        let places = |profile: u64, stripes: u64, sub_stripes: u16, at: u64| {
            let copies = copies_in(&chunk(profile, stripes, sub_stripes), at);
            copies.map(|copies| {
                copies.map(|copies| {
                    let device = |(device, offset): (u64, u64)| (device, offset - (device << 40));
                    (
                        copies.at.into_iter().map(device).collect::<Vec<_>>(),
                        copies.contiguous,
                    )
                })
            })
        };
        let place = |profile, stripes, sub_stripes, at| {
            places(profile, stripes, sub_stripes, at).unwrap().unwrap()
        };
        let left = (1 << 30) - 100 * KIB;
        assert_eq!(place(0, 1, 1, 100 * KIB), (vec![(1, 100 * KIB)], left));
        let three = vec![(1, 100 * KIB), (2, 100 * KIB), (3, 100 * KIB)];
        assert_eq!(place(1 << 9, 3, 1, 100 * KIB), (three, left));
        // Second stripe of two devices: 36 KiB into the first row of the second device.
        assert_eq!(
            place(1 << 3, 2, 1, 100 * KIB),
            (vec![(2, 36 * KIB)], 28 * KIB)
        );
        assert_eq!(
            place(1 << 3, 2, 1, 164 * KIB),
            (vec![(1, 100 * KIB)], 28 * KIB)
        );
        let mirrored = vec![(3, 36 * KIB), (4, 36 * KIB)];
        assert_eq!(place(1 << 6, 4, 2, 100 * KIB), (mirrored, 28 * KIB));
        assert!(matches!(
            places(1 << 7, 3, 1, 0),
            Some(Err(Unreadable::NotSupported))
        ));
        assert!(places(0, 1, 1, 1 << 30).is_none());
        // Whatever a chunk claims, nothing panics.
        assert!(
            copies_in(
                &Chunk {
                    stripes: vec![],
                    stripe_length: 0,
                    ..chunk(1 << 6, 0, 0)
                },
                5
            )
            .is_none()
        );
    }
}
