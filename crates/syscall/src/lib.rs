//! The only unsafe code of Plimsoll: kernel calls that rustix lacks, behind safe functions, and the allocator
//! beside musl.
//!
//! A borrowed file descriptor goes in, or a child; bytes or integers come out. Nothing here decodes,
//! decides or logs; buffers are the caller's, and every length that the kernel returns is checked against them.

#[cfg(target_env = "musl")]
pub mod allocator;
pub mod btrfs;
pub mod child;
pub mod fiemap;
pub mod handle;
pub mod lease;
pub mod mount;
pub mod pidfd;
pub mod quiet;
pub mod trace;
pub mod verity;
pub mod xattr;
