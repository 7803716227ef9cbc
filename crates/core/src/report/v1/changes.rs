//! What differs in a container, and what the policy says to it.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};

use crate::model::{self, Aspects, Attributes, Bytes, ChangeKind, DiffId, RootPath};
use crate::policy::{Class, Outcome};

/// The changes of a container, each with what was concluded about it.
///
/// There may be very many: they stay in the form in which they were measured, and each is put together
/// only while it is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    changes: Vec<model::Change>,
    /// One of each, in their order.
    outcomes: Vec<Outcome>,
}

/// One path that differs, and what the policy says to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change<'c> {
    /// The path inside the container.
    pub path: &'c RootPath,
    /// What happened to it.
    pub kind: ChangeKind,
    /// In which respects it differs; empty for added and deleted paths.
    pub aspects: Aspects,
    /// What the path is good for, by its name, mode and type.
    pub class: Class,
    /// The diffID of the image layer that the original lies in, where that is known.
    pub origin: Option<&'c DiffId>,
    /// Whether the policy accepts it.
    pub allowed: bool,
    /// The rule that decided; null when none applied, and then it is not allowed.
    pub rule: Option<&'c str>,
    /// Present and false when metadata shows that the content may differ and nobody read it.
    #[serde(skip_serializing_if = "is_confirmed")]
    pub confirmed: bool,
    /// The names of the extended attributes that differ, where some do; of what was added, of all that it has.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub xattrs: &'c [Bytes],
    /// Where the storage driver says that an added path came from, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renamed_from: Option<&'c RootPath>,
    /// Its attributes in the image; null when it was added.
    pub before: Option<Attributes>,
    /// Its attributes in the container; null when it was deleted.
    pub after: Option<Attributes>,
}

fn is_confirmed(confirmed: &bool) -> bool {
    *confirmed
}

impl Changes {
    /// Returns these changes, of which the outcomes are in the same order.
    pub(super) fn new(changes: Vec<model::Change>, outcomes: Vec<Outcome>) -> Self {
        Self { changes, outcomes }
    }

    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Returns how many the policy does not accept.
    #[must_use]
    pub fn denied(&self) -> usize {
        let denied = self.outcomes.iter().filter(|outcome| !outcome.allowed);
        denied.count()
    }

    /// Returns each of them, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = Change<'_>> {
        self.iter_if(|_| true)
    }

    /// Returns those that are wanted, sorted by path: of each it is told whether the policy accepts it.
    pub fn iter_if(&self, wanted: impl Fn(bool) -> bool) -> impl Iterator<Item = Change<'_>> {
        let all = self.changes.iter().zip(&self.outcomes);
        all.filter(move |(_, outcome)| wanted(outcome.allowed))
            .map(|(change, outcome)| Change::new(change, outcome))
    }
}

impl<'c> Change<'c> {
    fn new(change: &'c model::Change, outcome: &'c Outcome) -> Self {
        Self {
            path: &change.path,
            kind: change.kind,
            aspects: change.aspects,
            class: outcome.class,
            origin: change.origin.as_deref(),
            allowed: outcome.allowed,
            rule: outcome.rule.as_deref(),
            confirmed: change.confirmed,
            xattrs: &change.xattrs,
            renamed_from: change.renamed_from.as_deref(),
            before: change.before(),
            after: change.after(),
        }
    }
}

impl Serialize for Changes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl JsonSchema for Changes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Changes".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<Change<'_>>::json_schema(generator)
    }
}
