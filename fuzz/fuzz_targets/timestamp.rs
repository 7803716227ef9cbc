//! Gives any bytes to `timestamp`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_core::fuzzing::timestamp(data));
