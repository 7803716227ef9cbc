//! Gives any bytes to `overlay_options`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::overlay_options(data));
