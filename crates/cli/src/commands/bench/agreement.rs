//! Whether the methods found the same changes.

use std::collections::BTreeMap;
use std::fs::File;

use plimsoll_core::model::{Aspect, Aspects, ChangeKind, RootPath};
use serde::Deserialize;

use super::turn;
use crate::error::CliError;

/// Differences that are told of one method; the rest are counted.
const TOLD: usize = 5;

/// What a method says of one path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Claim {
    path: RootPath,
    kind: ChangeKind,
    aspects: Aspects,
    #[serde(default = "confirmed")]
    confirmed: bool,
}

fn confirmed() -> bool {
    true
}

#[derive(Deserialize)]
struct Report {
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    changes: Vec<Claim>,
}

/// What one method says.
#[derive(Debug)]
pub(super) struct Claims {
    name: String,
    claims: BTreeMap<RootPath, Claim>,
}

impl Claims {
    /// Reads those of a report.
    ///
    /// # Errors
    /// [`CliError`] when it is none.
    pub(super) fn of(name: &str, report: &mut File) -> Result<Self, CliError> {
        let Report { containers } = turn::parsed(report)?;
        Ok(Self::new(
            name,
            containers.into_iter().flat_map(|c| c.changes),
        ))
    }

    fn new(name: &str, claims: impl IntoIterator<Item = Claim>) -> Self {
        let claims = claims.into_iter().map(|c| (c.path.clone(), c));
        Self {
            name: name.to_owned(),
            claims: claims.collect(),
        }
    }

    /// Returns where `other` differs from this, a sentence each. What metadata alone cannot decide
    /// may be a change or not, and differs from nothing.
    pub(super) fn disagreements(&self, other: &Self) -> Vec<String> {
        let paths = self.claims.keys().chain(other.claims.keys());
        let mut told: Vec<String> = paths
            .filter_map(|path| {
                let mine = self.claims.get(path);
                let theirs = other.claims.get(path);
                (!agree(mine, theirs)).then(|| {
                    format!(
                        "{path}: {} for {}, {} for {}",
                        said(mine),
                        self.name,
                        said(theirs),
                        other.name
                    )
                })
            })
            .collect();
        told.sort();
        told.dedup();
        let more = told.len().saturating_sub(TOLD);
        told.truncate(TOLD);
        if more > 0 {
            told.push(format!("{more} more paths for {}", other.name));
        }
        told
    }
}

fn agree(one: Option<&Claim>, other: Option<&Claim>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) if one.confirmed && other.confirmed => {
            one.kind == other.kind && decisive(one).eq(decisive(other))
        }
        (Some(one), Some(other)) => one.kind == other.kind,
        (Some(alone), None) | (None, Some(alone)) => !alone.confirmed,
        (None, None) => true,
    }
}

/// Times and numbers of links are told beside other aspects, and not by every engine.
fn decisive(claim: &Claim) -> impl Iterator<Item = Aspect> {
    claim
        .aspects
        .iter()
        .filter(|aspect| !matches!(aspect, Aspect::Times | Aspect::Links))
}

fn said(claim: Option<&Claim>) -> String {
    let Some(claim) = claim else {
        return "no change".to_owned();
    };
    let words: Vec<&str> = decisive(claim).map(Aspect::as_str).collect();
    let unread = if claim.confirmed { "" } else { " unread" };
    format!("{}{} {}", claim.kind.letter(), unread, words.join("+"))
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(path: &str, kind: ChangeKind, aspects: &[Aspect]) -> Claim {
        Claim {
            path: RootPath::parse(path.as_bytes()).unwrap(),
            kind,
            aspects: aspects.iter().copied().collect(),
            confirmed: true,
        }
    }

    fn unread(path: &str) -> Claim {
        Claim {
            confirmed: false,
            ..claim(path, ChangeKind::Changed, &[Aspect::Content])
        }
    }

    fn disagreements(one: &[Claim], other: &[Claim]) -> Vec<String> {
        let one = Claims::new("exact", one.to_vec());
        one.disagreements(&Claims::new("md5", other.to_vec()))
    }

    #[test]
    fn the_same_is_the_same() {
        let changed = claim("/a", ChangeKind::Changed, &[Aspect::Content]);
        let more = claim("/a", ChangeKind::Changed, &[Aspect::Content, Aspect::Times]);
        assert!(disagreements(&[], &[]).is_empty());
        assert!(disagreements(std::slice::from_ref(&changed), &[more]).is_empty());
        // What nobody read may be either.
        assert!(disagreements(&[changed], &[unread("/a"), unread("/b")]).is_empty());
    }

    #[test]
    fn what_differs_is_told() {
        let changed = claim("/a", ChangeKind::Changed, &[Aspect::Content]);
        let mode = claim("/a", ChangeKind::Changed, &[Aspect::Mode]);
        let gone = claim("/a", ChangeKind::Deleted, &[]);
        for (other, told) in [
            (&[][..], "/a: C content for exact, no change for md5"),
            (&[mode], "/a: C content for exact, C mode for md5"),
            (&[gone], "/a: C content for exact, D for md5"),
        ] {
            assert_eq!(disagreements(std::slice::from_ref(&changed), other), [told]);
        }
        let many: Vec<_> = (0..9)
            .map(|n| claim(&format!("/{n}"), ChangeKind::Added, &[]))
            .collect();
        let told = disagreements(&[], &many);
        assert_eq!(told.len(), TOLD + 1);
        assert_eq!(told.last().unwrap(), "4 more paths for md5");
    }
}
