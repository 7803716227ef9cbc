//! Gives any bytes to `btrfs_checksums`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::btrfs_checksums(data));
