//! What must hold of each decoder, whatever bytes it gets.
//!
//! For `fuzz/` and for the replay of its corpus, and no part of the API: the feature `fuzzing` is on in
//! nothing that ships. A function here panics when its property does not hold. What it compares with is
//! written to be plain, not fast, and shares nothing with the decoder.
#![expect(
    clippy::unwrap_used,
    reason = "a property that does not hold is a panic: that is how a fuzzer is told"
)]

mod globs;
mod input;
mod model;
mod yaml;

pub use self::globs::globs;
pub use self::input::Input;
pub use self::model::{digest, names, path, says_plainly, timestamp};
pub use self::yaml::{policy, says_where, yaml};

/// A decoder under its name: that of the fuzz target and of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All decoders of this crate.
pub const TARGETS: &[Target] = &[
    ("digest", digest),
    ("globs", globs),
    ("names", names),
    ("path", path),
    ("policy", policy),
    ("timestamp", timestamp),
    ("yaml", yaml),
];
