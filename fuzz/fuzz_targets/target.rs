//! Gives any bytes to `target`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_cli::fuzzing::target(data));
