//! Gives any bytes to `globs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_core::fuzzing::globs(data));
