//! Gives any bytes to `names`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_core::fuzzing::names(data));
