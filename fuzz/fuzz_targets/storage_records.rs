//! Gives any bytes to `storage_records`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::storage_records(data));
