//! Gives any bytes to `btrfs_extent`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::btrfs_extent(data));
