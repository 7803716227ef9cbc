//! Gives any bytes to `bolt`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::bolt(data));
