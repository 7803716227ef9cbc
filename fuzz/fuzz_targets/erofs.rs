//! Gives any bytes to `erofs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::erofs(data));
