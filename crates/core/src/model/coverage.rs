//! What could not be seen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Bytes;

/// Something that could not be seen, and why.
///
/// A gap is never dropped: with one that the policy does not accept, the verdict is `unknown`
/// unless a violation is proven anyway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// A path inside the rootfs, a path on the host, or the name of what is missing.
    pub what: Bytes,
    /// Why it could not be seen: one clause, lower case, without a full stop.
    pub why: String,
}

impl Gap {
    /// Returns a gap about `what`.
    pub fn new(what: impl Into<Bytes>, why: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why: why.into(),
        }
    }
}
