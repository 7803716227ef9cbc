//! The chain from an image's digest to its layers.

mod chain;

pub use chain::chain_ids;
