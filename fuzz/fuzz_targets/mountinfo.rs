//! Gives any bytes to `mountinfo`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::mountinfo(data));
