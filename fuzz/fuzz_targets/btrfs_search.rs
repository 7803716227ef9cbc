//! Gives any bytes to `btrfs_search`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::btrfs_search(data));
