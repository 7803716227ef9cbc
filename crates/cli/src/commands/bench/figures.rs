//! Many turns in few figures: median, least and greatest.

use serde::Serialize;

/// What one turn took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sample {
    /// From the start of the process to its end.
    pub(super) wall_micros: u64,
    /// Of that, what the comparison itself took, by the report's own word.
    pub(super) engine_micros: u64,
    /// Processor time in user mode.
    pub(super) user_micros: u64,
    /// Processor time in the kernel.
    pub(super) system_micros: u64,
    /// Most memory that was resident at once.
    pub(super) peak_memory_bytes: u64,
    /// Bytes of the container's and the image's files that were read.
    pub(super) content_bytes: u64,
    /// All that the process read: the stored digests, and the runtime's records, among it.
    pub(super) read_bytes: Option<u64>,
    /// What storage was asked for, since it was not in the cache.
    pub(super) storage_bytes: Option<u64>,
    /// Directory entries, or tree items of Btrfs, that were read.
    pub(super) entries_read: u64,
    /// Changes found.
    pub(super) changes: usize,
    /// Of these, what metadata alone cannot decide and nobody read.
    pub(super) unconfirmed: usize,
    /// What could not be seen.
    pub(super) gaps: usize,
}

impl Sample {
    /// Returns the processor time.
    pub(super) fn cpu_micros(&self) -> u64 {
        self.user_micros + self.system_micros
    }
}

/// Median, least and greatest of one quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Spread {
    pub(super) median: u64,
    pub(super) min: u64,
    pub(super) max: u64,
}

impl Spread {
    /// Returns that of some values; `None` when there are none.
    pub(super) fn of(values: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut values: Vec<u64> = values.into_iter().collect();
        values.sort_unstable();
        let (min, max) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self {
            median: lower.midpoint(upper),
            min,
            max,
        })
    }
}

/// The turns of one method, with caches warm or cold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figures {
    pub(super) wall_micros: Spread,
    pub(super) engine_micros: Spread,
    pub(super) cpu_micros: Spread,
    pub(super) peak_memory_bytes: Spread,
    pub(super) content_bytes: Spread,
    pub(super) read_bytes: Option<Spread>,
    pub(super) storage_bytes: Option<Spread>,
    pub(super) entries_read: Spread,
    /// The turns, in their order.
    pub(super) samples: Vec<Sample>,
}

impl Figures {
    /// Returns those of some turns; `None` when there are none.
    pub(super) fn of(samples: Vec<Sample>) -> Option<Self> {
        let spread = |of: fn(&Sample) -> u64| Spread::of(samples.iter().map(of));
        // Of some turns only, it would be told of all.
        let whole = |of: fn(&Sample) -> Option<u64>| {
            let values: Option<Vec<u64>> = samples.iter().map(of).collect();
            values.and_then(Spread::of)
        };
        Some(Self {
            wall_micros: spread(|s| s.wall_micros)?,
            engine_micros: spread(|s| s.engine_micros)?,
            cpu_micros: spread(Sample::cpu_micros)?,
            peak_memory_bytes: spread(|s| s.peak_memory_bytes)?,
            content_bytes: spread(|s| s.content_bytes)?,
            read_bytes: whole(|s| s.read_bytes),
            storage_bytes: whole(|s| s.storage_bytes),
            entries_read: spread(|s| s.entries_read)?,
            samples,
        })
    }
}

/// Returns how many times `one` the value is: `of / one`, for people.
pub(super) fn ratio(of: u64, one: u64) -> String {
    let times = of as f64 / (one as f64).max(1.0);
    if times < 9.95 {
        format!("{times:.1}x")
    } else {
        format!("{times:.0}x")
    }
}

/// Returns a number with a comma before each three digits.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let of = |values: &[u64]| Spread::of(values.iter().copied());
        assert_eq!(of(&[]), None);
        let spread = |median, min, max| Some(Spread { median, min, max });
        assert_eq!(of(&[5]), spread(5, 5, 5));
        assert_eq!(of(&[9, 1, 5]), spread(5, 1, 9));
        assert_eq!(of(&[1, 9, 3, 5]), spread(4, 1, 9));
        assert_eq!(
            of(&[u64::MAX, u64::MAX - 2]),
            spread(u64::MAX - 1, u64::MAX - 2, u64::MAX)
        );
    }

    #[test]
    fn what_not_every_turn_tells_is_not_told() {
        let sample = |read_bytes| Sample {
            wall_micros: 1,
            engine_micros: 1,
            user_micros: 1,
            system_micros: 2,
            peak_memory_bytes: 1,
            content_bytes: 1,
            read_bytes,
            storage_bytes: None,
            entries_read: 1,
            changes: 1,
            unconfirmed: 0,
            gaps: 0,
        };
        let told = Figures::of(vec![sample(Some(1)), sample(Some(3))]).unwrap();
        assert_eq!(told.read_bytes.unwrap().median, 2);
        assert_eq!(told.cpu_micros.median, 3);
        let partly = Figures::of(vec![sample(Some(1)), sample(None)]).unwrap();
        assert_eq!(partly.read_bytes, None);
        assert_eq!(Figures::of(Vec::new()), None);
    }

    #[test]
    fn numbers_in_groups() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (77_941, "77,941"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn ratios() {
        for (of, one, text) in [
            (7, 7, "1.0x"),
            (1, 2, "0.5x"),
            (150, 7, "21x"),
            (1, 0, "1.0x"),
        ] {
            assert_eq!(ratio(of, one), text);
        }
    }
}
