//! The chain from an image's digest to its layers, and who says what that digest must be.

mod chain;
mod layout;
mod name;
mod reference;
mod signature;

pub use chain::chain_ids;
pub use layout::LayoutError;
pub use name::{ImageName, NameError};
pub use reference::{Expected, ReferenceValues};
pub use signature::{PublicKey, SignatureError, Signed};
