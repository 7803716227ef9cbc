//! Gives any bytes to `process_maps`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::process_maps(data));
