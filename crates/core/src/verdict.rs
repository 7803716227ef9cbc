//! The outcome of appraising a measurement, and the exit code that stands for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an appraisal concludes about one container.
///
/// The order is the order of severity used when several containers share one exit code: a proven
/// violation outranks a gap, because a gap must not be able to mask it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No change and no gap.
    Intact,
    /// Changes, each of them covered by a policy rule, and no gap that counts.
    Allowed,
    /// Something could not be seen, and the policy does not accept that.
    Unknown,
    /// A change that the policy does not allow.
    Violated,
}

impl Verdict {
    /// Returns the exit code that stands for this verdict, as in diff(1): 0 the same or allowed,
    /// 1 violated, 2 unknown.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Intact | Self::Allowed => 0,
            Self::Violated => 1,
            Self::Unknown => 2,
        }
    }

    /// Returns the word used in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::Allowed => "allowed",
            Self::Unknown => "unknown",
            Self::Violated => "violated",
        }
    }
}

/// How many containers ended with which verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Containers with no change and no gap.
    pub intact: u64,
    /// Containers whose every change a policy rule covers.
    pub allowed: u64,
    /// Containers with a change that the policy does not allow.
    pub violated: u64,
    /// Containers of which something could not be seen.
    pub unknown: u64,
}

impl Summary {
    /// Counts one more container.
    pub fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Intact => self.intact += 1,
            Verdict::Allowed => self.allowed += 1,
            Verdict::Violated => self.violated += 1,
            Verdict::Unknown => self.unknown += 1,
        }
    }

    /// Returns the exit code for all of them together: 1 if any is violated, else 2 if any is
    /// unknown, else 0.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        if self.violated > 0 {
            Verdict::Violated.exit_code()
        } else if self.unknown > 0 {
            Verdict::Unknown.exit_code()
        } else {
            Verdict::Intact.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_is_not_masked_by_a_gap() {
        let mut summary = Summary::default();
        summary.add(Verdict::Unknown);
        assert_eq!(summary.exit_code(), 2);
        summary.add(Verdict::Violated);
        assert_eq!(summary.exit_code(), 1);
    }
}
