//! Applying a policy to a measurement.

use std::sync::Arc;

use crate::Verdict;
use crate::model::{Change, ChangeKind, Measurement, MountOrigin, RuntimePath, Timestamp};

use super::{Action, Class, Policy};

/// The name under which reports give the one rule that is built in: what the runtime itself writes
/// into a container's layer is allowed, in exactly the form in which it writes it.
pub const RUNTIME_RULE: &str = "builtin-runtime";

/// What an appraisal concludes about one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What the path is good for.
    pub class: Class,
    /// Whether the policy accepts the change.
    pub allowed: bool,
    /// The rule that decided; `None` when none applied, which means that it is not allowed.
    pub rule: Option<Arc<str>>,
}

/// What an appraisal concludes about one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appraisal {
    /// The conclusion.
    pub verdict: Verdict,
    /// One entry for each change of the measurement, in its order.
    pub changes: Vec<Outcome>,
    /// Whether it is not held against the container, for each mount of the measurement, in its order.
    pub mounts_allowed: Vec<bool>,
    /// Whether it is not held against the container, for each piece of code, in its order.
    pub code_allowed: Vec<bool>,
    /// Whether the policy accepts it, for each gap of the measurement, in its order.
    pub gaps_accepted: Vec<bool>,
}

/// Applies `policy` to `measurement` as of `now`.
///
/// - a change that is not allowed, a mount that nobody accounts for, code that nothing else tells of, a
///   layer of the image that is not what its digest says, or an image that is not the one that reference
///   values name: `violated`, whatever else could not be seen; no rule allows the last two, for they are
///   no changes of the container;
/// - else a gap that is not accepted, or no engine: `unknown`;
/// - else any of these at all: `allowed`;
/// - else `intact`.
///
/// One more change or one more gap never makes the verdict better.
///
/// # Trust
/// The measurement is taken at its word. An appraisal does not prove that it was made of this
/// container, by this program, or lately.
#[must_use]
pub fn appraise(measurement: &Measurement, policy: &Policy, now: Timestamp) -> Appraisal {
    let changes: Vec<Outcome> = measurement
        .changes
        .iter()
        .map(|change| judge(change, policy, &measurement.container.runtime_paths, now))
        .collect();
    let gaps_accepted: Vec<bool> = measurement
        .gaps
        .iter()
        .map(|gap| policy.accepts(gap))
        .collect();

    let mounts_allowed: Vec<bool> = measurement
        .mounts
        .iter()
        .map(|mount| policy.allows_mount(mount))
        .collect();
    let code_allowed: Vec<bool> = measurement
        .code
        .iter()
        .map(|code| policy.allows_code(code))
        .collect();
    let beside = measurement
        .mounts
        .iter()
        .any(|mount| mount.origin == MountOrigin::Foreign)
        || measurement.code.iter().any(|code| code.origin.is_hidden());

    let verdict = if changes.iter().any(|outcome| !outcome.allowed)
        || mounts_allowed.contains(&false)
        || code_allowed.contains(&false)
        || measurement.baseline.is_violated()
    {
        Verdict::Violated
    } else if measurement.engine.is_none() || gaps_accepted.contains(&false) {
        Verdict::Unknown
    } else if beside || !changes.is_empty() || !gaps_accepted.is_empty() {
        Verdict::Allowed
    } else {
        Verdict::Intact
    };
    Appraisal {
        verdict,
        changes,
        mounts_allowed,
        code_allowed,
        gaps_accepted,
    }
}

fn judge(change: &Change, policy: &Policy, made: &[RuntimePath], now: Timestamp) -> Outcome {
    let class = Class::of(change);
    let decided = policy
        .rules
        .iter()
        .find(|rule| rule.applies(change, class, now));
    let (allowed, rule) = match decided {
        Some(rule) => (rule.action != Action::Deny, Some(Arc::clone(&rule.name))),
        None if made.iter().any(|path| is_exactly(change, path)) => {
            (true, Some(Arc::from(RUNTIME_RULE)))
        }
        None => (false, None),
    };
    Outcome {
        class,
        allowed,
        rule,
    }
}

/// Whether `change` adds this path, or is one of the root directory that the runtime makes anew, and
/// nothing about it is other than the runtime makes it.
fn is_exactly(change: &Change, made: &RuntimePath) -> bool {
    let kind = match made.is_root() {
        true => ChangeKind::Changed,
        false => ChangeKind::Added,
    };
    change.kind == kind
        && change.confirmed
        && change.sides.has_before() != (kind == ChangeKind::Added)
        && change.renamed_from.is_none()
        && made.covers(change)
}

#[cfg(test)]
mod tests;
