//! The one walk.

/// Levels of directories whose nodes are kept alive at once.
pub const OPEN_LEVELS: usize = 64;
