//! Gives any bytes to `btrfs_root`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::btrfs_root(data));
