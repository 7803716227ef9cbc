//! What Plimsoll says: values and pure functions.
//!
//! Nothing here touches a file system, a network, a process, the environment or a clock
//! (`clippy.toml` beside this crate holds that), so an auditor can read and run it with nothing
//! else, and a verifier on another machine links exactly the code that the host ran.
//!
//! ```text
//! Measurement -policy::appraise(measurement, policy, now)-> Appraisal -report-> Document
//! ```

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod model;
pub mod policy;
pub mod report;
pub mod trust;
mod verdict;
pub mod yaml;

pub use verdict::{Summary, Verdict};
