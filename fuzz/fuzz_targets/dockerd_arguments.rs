//! Gives any bytes to `dockerd_arguments`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::dockerd_arguments(data));
