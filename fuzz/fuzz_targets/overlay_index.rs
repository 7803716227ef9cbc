//! Gives any bytes to `overlay_index`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::overlay_index(data));
