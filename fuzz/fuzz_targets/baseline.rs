//! Gives any bytes to `baseline`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::baseline(data));
