//! Rules, and when one of them applies to a change.

use std::sync::Arc;

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::model::{Aspects, Change, ChangeKind, Code, Gap, Mount, MountOrigin, Timestamp};

use super::Class;
use super::pattern::ambiguity;

/// What is accepted: an ordered list of rules for changes, and patterns for gaps, mounts and code.
///
/// The first rule that applies to a change decides about it. A change that no rule applies to is
/// allowed only when it is exactly what the runtime itself writes ([`super::RUNTIME_RULE`]); the
/// default policy has no rule at all.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// The rules, in the order in which they are asked.
    pub rules: Vec<Rule>,
    /// Gaps that do not count: matched against [`Gap::what`].
    pub accepted_gaps: PathSet,
    /// Paths over which something may be mounted that nobody accounts for.
    pub allowed_mounts: PathSet,
    /// Names of code that may run without being in a file of the rootfs or of a mount: matched
    /// against [`Code::path`].
    pub allowed_code: PathSet,
}

/// One rule. Every condition that is given must hold.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name, as reports give it; unique in a policy.
    pub name: Arc<str>,
    /// The paths that it is about.
    pub paths: PathSet,
    /// The kinds of change that it is about; all when absent.
    pub kinds: Option<Vec<ChangeKind>>,
    /// The aspects that it is about; all when absent. A rule that allows applies when *every*
    /// aspect of the change is named here, a rule that denies when *one* is, so that a second
    /// aspect never slips through.
    pub aspects: Option<Aspects>,
    /// The classes that it is about; all when absent.
    pub classes: Option<Vec<Class>>,
    /// What it does.
    pub action: Action,
    /// Why it is there, for people.
    pub reason: Option<String>,
}

/// What a rule does with a change that it applies to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Accepts it, as long as the rule lives.
    Allow(Lifetime),
    /// Holds it against the container, for ever: were a denial to expire, time alone could turn a
    /// violation into an allowed change.
    Deny,
}

/// How long a rule allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lifetime {
    /// For ever.
    Unlimited,
    /// Before this moment.
    Until(Timestamp),
    /// Not at all, because the date cannot be read: this is its text.
    Unreadable(String),
}

impl Lifetime {
    /// Whether the rule is in force at `now`.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        match self {
            Self::Unlimited => true,
            Self::Until(end) => now < *end,
            Self::Unreadable(_) => false,
        }
    }
}

impl Rule {
    /// Whether this rule decides about `change`, which is of class `class`, at `now`.
    #[must_use]
    pub fn applies(&self, change: &Change, class: Class, now: Timestamp) -> bool {
        self.in_force(now)
            && self.kinds.as_ref().is_none_or(|k| k.contains(&change.kind))
            && self.classes.as_ref().is_none_or(|c| c.contains(&class))
            && self
                .aspects
                .is_none_or(|a| self.applies_to_aspects(a, change))
            && self.paths.contains(change.path.as_bytes())
    }

    /// Whether the rule has not lapsed at `now`.
    #[must_use]
    pub fn in_force(&self, now: Timestamp) -> bool {
        match &self.action {
            Action::Allow(lifetime) => lifetime.holds(now),
            Action::Deny => true,
        }
    }

    fn applies_to_aspects(&self, named: Aspects, change: &Change) -> bool {
        // The number of links and the times are told beside other aspects and are no change.
        let mut counted = change
            .aspects
            .iter()
            .filter(|a| Aspects::from_iter([*a]).is_change())
            .peekable();
        match self.action {
            // An added, deleted or replaced path differs in all that it is.
            Action::Allow(_) => {
                change.kind == ChangeKind::Changed
                    && counted.peek().is_some()
                    && counted.all(|a| named.contains(a))
            }
            Action::Deny => {
                change.kind != ChangeKind::Changed || counted.any(|a| named.contains(a))
            }
        }
    }
}

impl Policy {
    /// Returns the rules that allow nothing any more at `now`.
    pub fn lapsed(&self, now: Timestamp) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| !rule.in_force(now))
    }

    /// Whether `gap` does not count.
    #[must_use]
    pub fn accepts(&self, gap: &Gap) -> bool {
        self.accepted_gaps.contains(gap.what.as_bytes())
    }

    /// Whether a mount is not held against the container: somebody accounts for it, or this policy
    /// allows it.
    #[must_use]
    pub fn allows_mount(&self, mount: &Mount) -> bool {
        mount.origin != MountOrigin::Foreign || self.allowed_mounts.contains(mount.path.as_bytes())
    }

    /// Whether code is not held against the container by itself: a change or a mount tells of it, or
    /// this policy allows it.
    #[must_use]
    pub fn allows_code(&self, code: &Code) -> bool {
        !code.origin.is_hidden() || self.allowed_code.contains(code.path.as_bytes())
    }

    /// Whether a deleted directory must be listed with everything beneath it for the rules to mean
    /// what they say: one of them is about some of the deleted paths only.
    #[must_use]
    pub fn needs_expansion(&self) -> bool {
        self.rules.iter().any(|rule| rule.action == Action::Deny)
    }
}

/// A set of paths, given as globs.
///
/// `*` and `?` stop at a slash, a `**` alone between slashes does not, `{a,b}` and `[a-z]` are as in
/// a shell, and a backslash takes a character literally. Names are matched as bytes, so a name that is
/// no UTF-8 can be matched by `*` too. `/etc/**` is what lies beneath `/etc`, without `/etc` itself;
/// `/**` is everything, the root as well.
#[derive(Debug, Clone, Default)]
pub struct PathSet {
    globs: Vec<String>,
    set: GlobSet,
}

/// Why a text is not a glob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{glob}\" is not a pattern: {why}")]
pub struct PathSetError {
    /// The text, escaped.
    pub glob: String,
    /// What is wrong with it.
    pub why: String,
}

impl PathSet {
    /// Compiles `globs`.
    ///
    /// # Errors
    /// [`PathSetError`] for the first one that cannot be read.
    pub fn new(globs: impl IntoIterator<Item = String>) -> Result<Self, PathSetError> {
        let globs: Vec<String> = globs.into_iter().collect();
        let mut builder = GlobSetBuilder::new();
        for glob in &globs {
            let compiled = GlobBuilder::new(glob)
                .literal_separator(true)
                .backslash_escape(true)
                .empty_alternates(true)
                .build()
                .map_err(|error| PathSetError::new(glob, error.kind()))?;
            if let Some(why) = ambiguity(glob) {
                return Err(PathSetError::new(glob, &why));
            }
            builder.add(compiled);
        }
        let set = builder
            .build()
            .map_err(|error| PathSetError::new(error.glob().unwrap_or(""), error.kind()))?;
        Ok(Self { globs, set })
    }

    /// Whether one of the globs matches.
    #[must_use]
    pub fn contains(&self, path: &[u8]) -> bool {
        self.set.is_match_candidate(&Candidate::from_bytes(path))
    }

    /// Returns the globs as they were written.
    #[must_use]
    pub fn globs(&self) -> &[String] {
        &self.globs
    }
}

impl PathSetError {
    fn new(glob: &str, why: &dyn std::fmt::Display) -> Self {
        Self {
            glob: crate::model::escape(glob.as_bytes()).into_owned(),
            why: crate::model::escape(why.to_string().as_bytes()).into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(globs: &[&str]) -> PathSet {
        PathSet::new(globs.iter().map(|g| (*g).to_owned())).unwrap()
    }

    #[test]
    fn globs_stop_at_slashes_and_match_bytes() {
        let logs = set(&["/var/log/**", "/srv/*/tmp", "**/*.pid"]);
        for inside in [
            &b"/var/log/a"[..],
            b"/var/log/a/b",
            b"/var/log/\xff\n",
            b"/srv/app/tmp",
            b"/run/x.pid",
        ] {
            assert!(logs.contains(inside), "{}", crate::model::escape(inside));
        }
        for outside in [
            &b"/var/log"[..],
            b"/var/logs/a",
            b"/srv/a/b/tmp",
            b"/etc/passwd",
        ] {
            assert!(!logs.contains(outside), "{}", crate::model::escape(outside));
        }
        assert!(!PathSet::default().contains(b"/etc/passwd"));
        let both = set(&["/etc/passwd{,-}"]);
        assert!(both.contains(b"/etc/passwd") && both.contains(b"/etc/passwd-"));
    }

    #[test]
    fn a_bad_glob_is_named() {
        let error = PathSet::new(["/ok".to_owned(), "/a[".to_owned()]).unwrap_err();
        assert!(
            error.to_string().starts_with("\"/a[\" is not a pattern"),
            "{error}"
        );
    }

    #[test]
    fn lifetimes_end() {
        let at = |seconds| Timestamp {
            seconds,
            nanoseconds: 0,
        };
        assert!(Lifetime::Unlimited.holds(at(i64::MAX)));
        assert!(Lifetime::Until(at(10)).holds(at(9)));
        assert!(!Lifetime::Until(at(10)).holds(at(10)));
        assert!(!Lifetime::Unreadable("soon".into()).holds(at(0)));
    }
}
