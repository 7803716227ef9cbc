//! The text of a policy.
//!
//! ```yaml
//! version: 1
//! rules:
//!   - name: logs
//!     paths: ["/var/log/**"]
//!     kinds: [added, changed, deleted]     # added, deleted, changed, replaced; all when absent
//!     aspects: [content]                   # all when absent
//!     classes: [log]                       # all when absent
//!     action: allow                        # or deny; the first rule that applies decides
//!     reason: nginx writes its access log
//!     expires: 2027-01-31                  # allowed up to the end of this day, in UTC
//! gaps:
//!   accept: ["/var/lib/app/cache/**"]
//! mounts:
//!   allow: ["/mnt/**"]                   # over which something nobody accounts for may be mounted
//! processes:
//!   allow: ["/memfd:doublemapper"]       # code that is in no file
//! ```

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::model::{Aspect, ChangeKind, Timestamp, escape};
use crate::yaml::{self, YamlError};

use super::pattern::is_rooted;
use super::{Action, Class, Lifetime, PathSet, Policy, Rule};

/// Returns the error about `place`.
fn at<T>(place: &Spanned<T>, why: impl Into<String>) -> YamlError {
    YamlError {
        line: place.referenced.line(),
        why: why.into(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: Option<Spanned<u64>>,
    #[serde(default)]
    rules: Vec<Spanned<RawRule>>,
    #[serde(default)]
    gaps: RawGaps,
    #[serde(default)]
    mounts: RawAllowed,
    #[serde(default)]
    processes: RawAllowed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: Spanned<String>,
    paths: Spanned<Vec<Spanned<String>>>,
    kinds: Option<Spanned<Vec<ChangeKind>>>,
    aspects: Option<Spanned<Vec<Aspect>>>,
    classes: Option<Spanned<Vec<Class>>>,
    action: RawAction,
    reason: Option<String>,
    expires: Option<Spanned<String>>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum RawAction {
    Allow,
    Deny,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawGaps {
    #[serde(default)]
    accept: Vec<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawAllowed {
    #[serde(default)]
    allow: Vec<Spanned<String>>,
}

impl Policy {
    /// Reads a policy from YAML.
    ///
    /// A date that cannot be read is no error: its rule allows nothing, and [`Policy::lapsed`]
    /// tells of it.
    ///
    /// # Errors
    /// [`YamlError`] with the line, for text that is no YAML, a field that does not exist, a
    /// pattern that cannot match, and a rule that could never apply.
    pub fn parse(text: &str) -> Result<Self, YamlError> {
        let document: Document = yaml::from_str(text)?;
        if let Some(version) = &document.version
            && version.value != 1
        {
            return Err(at(
                version,
                format!("version {} is not known, only version 1 is", version.value),
            ));
        }
        let mut rules: Vec<Rule> = Vec::with_capacity(document.rules.len());
        for raw in document.rules {
            let rule = read_rule(raw.value, &rules)?;
            rules.push(rule);
        }
        Ok(Self {
            rules,
            accepted_gaps: path_set(document.gaps.accept, false)?,
            allowed_mounts: path_set(document.mounts.allow, true)?,
            allowed_code: path_set(document.processes.allow, true)?,
        })
    }
}

fn read_rule(raw: RawRule, earlier: &[Rule]) -> Result<Rule, YamlError> {
    let name = &raw.name;
    if name.value.is_empty() || name.value.chars().any(char::is_control) {
        return Err(at(name, "a rule's name is one line of text"));
    }
    if name.value.starts_with("builtin-") {
        return Err(at(
            name,
            "names that begin with builtin- are taken: choose another",
        ));
    }
    if earlier.iter().any(|rule| *rule.name == *name.value) {
        return Err(at(
            name,
            format!(
                "a rule named \"{}\" comes before: choose another name",
                name.value
            ),
        ));
    }
    let action = match (raw.action, raw.expires) {
        (RawAction::Allow, None) => Action::Allow(Lifetime::Unlimited),
        (RawAction::Allow, Some(date)) => Action::Allow(lifetime(&date.value)),
        (RawAction::Deny, None) => Action::Deny,
        (RawAction::Deny, Some(date)) => {
            return Err(at(
                &date,
                "a rule that denies cannot expire: leave this out",
            ));
        }
    };
    if raw.paths.value.is_empty() {
        return Err(at(&raw.paths, EMPTY_LIST));
    }
    Ok(Rule {
        paths: path_set(raw.paths.value, true)?,
        kinds: raw.kinds.map(filled).transpose()?,
        aspects: raw
            .aspects
            .map(filled)
            .transpose()?
            .map(FromIterator::from_iter),
        classes: raw.classes.map(filled).transpose()?,
        name: raw.name.value.into(),
        action,
        reason: raw.reason,
    })
}

const EMPTY_LIST: &str = "an empty list matches nothing: name something, or leave the rule out";

fn filled<T>(list: Spanned<Vec<T>>) -> Result<Vec<T>, YamlError> {
    if list.value.is_empty() {
        return Err(at(&list, EMPTY_LIST));
    }
    Ok(list.value)
}

fn path_set(globs: Vec<Spanned<String>>, rooted: bool) -> Result<PathSet, YamlError> {
    for glob in &globs {
        if rooted && !is_rooted(&glob.value) {
            let why = format!(
                "\"{}\" matches no path: begin with / or **/, and end without a slash",
                escape(glob.value.as_bytes())
            );
            return Err(at(glob, why));
        }
        PathSet::new([glob.value.clone()]).map_err(|error| at(glob, error.to_string()))?;
    }
    let line = globs.first().map_or(0, |glob| glob.referenced.line());
    PathSet::new(globs.into_iter().map(|glob| glob.value)).map_err(|error| YamlError {
        line,
        why: error.to_string(),
    })
}

/// Returns until when a rule allows that names this date: to the end of that day, in UTC.
fn lifetime(date: &str) -> Lifetime {
    let end = date
        .parse::<jiff::civil::Date>()
        .and_then(jiff::civil::Date::tomorrow)
        .and_then(|next| next.to_zoned(jiff::tz::TimeZone::UTC));
    match end {
        // `2027-01-31T12:00` parses as a date too; whoever wrote an hour meant it.
        Ok(end) if date.len() == "YYYY-MM-DD".len() => Lifetime::Until(Timestamp {
            seconds: end.timestamp().as_second(),
            nanoseconds: 0,
        }),
        _ => Lifetime::Unreadable(date.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_policy() {
        let policy = Policy::parse(
            "
version: 1
rules:
  - name: logs
    paths: ['/var/log/**']
    kinds: [added, changed]
    aspects: [content, times]
    classes: [log, package-database]
    action: allow
    reason: they grow
    expires: 2027-01-31
  - name: keys
    paths: ['**/*.key']
    action: deny
gaps:
  accept: ['/proc/**', 'CAP_*']
mounts:
  allow: [/mnt/*]
processes:
  allow: ['/memfd:jit*']
",
        )
        .unwrap();
        assert_eq!(policy.rules.len(), 2);
        let rule = &policy.rules[0];
        assert_eq!(rule.classes, Some(vec![Class::Log, Class::PackageDatabase]));
        assert!(rule.aspects.unwrap().contains(Aspect::Content));
        // date -u -d 2027-02-01 +%s
        assert_eq!(
            rule.action,
            Action::Allow(Lifetime::Until(Timestamp {
                seconds: 1_801_440_000,
                nanoseconds: 0
            }))
        );
        assert_eq!(policy.rules[1].action, Action::Deny);
        assert!(policy.needs_expansion());
        assert!(policy.accepted_gaps.contains(b"CAP_SYS_ADMIN"));
        assert!(policy.allowed_mounts.contains(b"/mnt/x"));
        assert!(policy.allowed_code.contains(b"/memfd:jit-1"));
        assert!(Policy::parse("{}").unwrap().rules.is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, why) in [
            (
                "rules:\n- name: a\n  paths: [/x]\n  actoin: allow\n",
                4,
                "actoin",
            ),
            (
                "rules:\n- name: a\n  paths: [/x]\n  action: maybe\n",
                4,
                "maybe",
            ),
            ("rules:\n- name: a\n  paths: [/x]\n", 3, "action"),
            (
                "rules:\n- name: a\n  paths: []\n  action: deny\n",
                3,
                EMPTY_LIST,
            ),
            (
                "rules:\n- name: a\n  paths: [/x]\n  kinds: []\n  action: deny\n",
                4,
                EMPTY_LIST,
            ),
            (
                "rules:\n- name: a\n  paths:\n  - /ok\n  - '*.log'\n  action: deny\n",
                5,
                "begin with / or **/",
            ),
            (
                "rules:\n- name: a\n  paths: ['**.key']\n  action: deny\n",
                3,
                "begin with / or **/",
            ),
            (
                "rules:\n- name: a\n  paths:\n  - /etc/\n  action: deny\n",
                4,
                "end without a slash",
            ),
            (
                "rules:\n- name: a\n  paths: ['/etc/**.conf']\n  action: deny\n",
                3,
                "** stands alone",
            ),
            (
                "rules:\n- name: a\n  paths: ['/[']\n  action: deny\n",
                3,
                "is not a pattern",
            ),
            (
                "rules:\n- name: a\n  paths: [/x]\n  classes: [logs]\n  action: deny\n",
                4,
                "logs",
            ),
            (
                "rules:\n- name: builtin-x\n  paths: [/x]\n  action: deny\n",
                2,
                "choose another",
            ),
            (
                "rules:\n- name: a\n  paths: [/x]\n  action: deny\n- name: a\n  paths: [/x]\n  action: deny\n",
                5,
                "choose another name",
            ),
            (
                "rules:\n- name: a\n  paths: [/x]\n  action: deny\n  expires: 2027-01-01\n",
                5,
                "cannot expire",
            ),
            ("mounts:\n  allow: [mnt]\n", 2, "begin with / or **/"),
            ("processes:\n  deny: [/x]\n", 2, "deny"),
            ("version: 2\n", 1, "version 2 is not known"),
            ("rules: {\n", 1, "sequence"),
        ] {
            let error = Policy::parse(text)
                .err()
                .unwrap_or_else(|| panic!("accepted: {text}"));
            assert!(error.why.contains(why), "{text}\n{error}");
            assert_eq!(error.line, line, "{text}\n{error}");
            assert!(
                !error.why.contains('\n') && !error.why.is_empty(),
                "{error}"
            );
        }
    }

    #[test]
    fn a_date_that_cannot_be_read_allows_nothing() {
        for date in ["soon", "2027-02-30", "31.01.2027", "2027-01-31T12:00", ""] {
            let text =
                format!("rules:\n- name: a\n  paths: [/x]\n  action: allow\n  expires: '{date}'\n");
            let policy = Policy::parse(&text).unwrap();
            let now = Timestamp {
                seconds: 0,
                nanoseconds: 0,
            };
            assert_eq!(policy.lapsed(now).count(), 1, "{date}");
        }
    }

    #[test]
    fn the_examples_of_the_guide_are_policies() {
        let guide = include_str!("../../../../docs/guide/policies.md");
        let examples: Vec<&str> = guide
            .split("```yaml\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
            .collect();
        assert!(!examples.is_empty());
        for example in examples {
            let policy = Policy::parse(example).unwrap();
            assert!(!policy.rules.is_empty());
        }
    }
}
