//! Policies: which changes and which gaps are accepted, and what follows from that.
//!
//! A policy is data, written in YAML by whoever runs containers. Appraising is a pure function of a
//! measurement, a policy and a moment, so that a verifier on another machine comes to the verdict
//! that the host came to.

mod appraise;
mod class;
mod parse;
mod pattern;
mod rule;

pub use appraise::{Appraisal, Outcome, RUNTIME_RULE, appraise};
pub use class::Class;
pub use rule::{Action, Lifetime, PathSet, PathSetError, Policy, Rule};
