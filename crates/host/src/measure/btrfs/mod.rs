//! Btrfs engine: what generations and extents say.
