//! What the kernel's process table says: which processes a container has, what is mounted where they
//! look, which files their code comes from.

pub(crate) mod cgroup;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
pub(crate) mod life;
pub(crate) mod maps;
pub mod mountinfo;
pub(crate) mod root;
pub(crate) mod root_mount;
pub(crate) mod table;
pub(crate) mod writers;
