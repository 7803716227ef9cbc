//! How one machine is looked at: which containers there are, where their layers lie, what differs.
//!
//! Synchronous and read-only. Read the folders in the order in which data flows:
//!
//! ```text
//! Request -runtimes-> Located -layers-> LayerStack -measure-> Change*, Gap* -inspect-> Measurement
//! ```
//!
//! `runtimes` names no engine, `measure` names no runtime; every access to a file goes through `fs`,
//! every question about processes through `proc`.

mod freeze;
pub mod fs;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod image;
pub mod inspect;
pub mod layers;
pub mod measure;
mod parallel;
pub mod privilege;
pub mod proc;
pub mod runtimes;
pub mod seal;
