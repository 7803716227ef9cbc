//! What an operator wrote: policies, and YAML in general.

use std::collections::HashSet;

use super::model::says_plainly;
use crate::model::{Change, ChangeKind, RootPath, Timestamp};
use crate::policy::{Action, Policy, Rule};
use crate::yaml::{self, YamlError};

/// Most nodes that a document may have once its aliases are replaced (`serde_saphyr::Budget`).
const NODES_MAX: usize = 1_250_000;

/// A text is a document within bounds, or is refused with one line that says where.
pub fn yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match yaml::from_str::<serde_json::Value>(text) {
        Ok(value) => assert!(nodes(&value) <= NODES_MAX),
        Err(error) => says_where(&error, text),
    }
}

/// A text is a policy whose rules mean something, or is refused with one line that says where.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let policy = match Policy::parse(text) {
        Ok(policy) => policy,
        Err(error) => return says_where(&error, text),
    };
    let names: HashSet<&str> = policy.rules.iter().map(|rule| &*rule.name).collect();
    assert_eq!(names.len(), policy.rules.len());
    assert!(!names.contains("") && names.iter().all(|name| !name.starts_with("builtin-")));
    assert_eq!(
        policy.needs_expansion(),
        policy.rules.iter().any(|rule| rule.action == Action::Deny)
    );
    for rule in &policy.rules {
        check_rule(rule);
    }
}

fn check_rule(rule: &Rule) {
    assert!(!rule.paths.globs().is_empty());
    assert_ne!(rule.kinds.as_deref(), Some(&[][..]));
    assert_ne!(rule.classes.as_deref(), Some(&[][..]));
    assert!(rule.aspects.is_none_or(|aspects| !aspects.is_empty()));
    let times = [i64::MIN, 0, 1_800_000_000, i64::MAX].map(|seconds| Timestamp {
        seconds,
        nanoseconds: 0,
    });
    let in_force = times.map(|time| rule.in_force(time));
    // A rule lapses once and for all, and a denial never does.
    assert!(in_force.is_sorted_by(|earlier, later| earlier >= later));
    assert!(rule.action != Action::Deny || in_force[3]);
    for glob in rule.paths.globs() {
        assert!(glob.starts_with('/') || glob.starts_with("**"));
        if glob.contains(['*', '?', '[', '{', '}', ',', '\\']) {
            continue;
        }
        // A plain path is about itself, so the rule is about something.
        let path = RootPath::parse(glob.as_bytes()).unwrap();
        assert_eq!(path.as_bytes(), glob.as_bytes());
        let change = added(path);
        let class = crate::policy::Class::of(&change);
        let applies = rule.kinds.as_ref().is_none_or(|k| k.contains(&change.kind))
            && rule.classes.as_ref().is_none_or(|c| c.contains(&class))
            && (rule.aspects.is_none() || rule.action == Action::Deny);
        for (time, in_force) in times.into_iter().zip(in_force) {
            assert_eq!(rule.applies(&change, class, time), applies && in_force);
        }
    }
}

fn added(path: RootPath) -> Change {
    Change::new(path, ChangeKind::Added)
}

/// Sees that an error is one line that can be shown, about a line that the text has.
pub fn says_where(error: &YamlError, text: &str) {
    says_plainly(&error.why);
    // YAML also ends lines with a lone carriage return.
    let lines = text.replace("\r\n", "\n").split(['\n', '\r']).count() as u64;
    assert!(error.line <= lines, "{error}: {lines} lines");
}

fn nodes(value: &serde_json::Value) -> usize {
    let below: usize = match value {
        serde_json::Value::Array(list) => list.iter().map(nodes).sum(),
        serde_json::Value::Object(map) => map.values().map(nodes).sum(),
        _ => 0,
    };
    below + 1
}
