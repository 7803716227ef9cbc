//! Gives any bytes to `btrfs_extents`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::btrfs_extents(data));
