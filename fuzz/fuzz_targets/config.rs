//! Gives any bytes to `config`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_cli::fuzzing::config(data));
