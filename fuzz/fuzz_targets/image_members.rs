//! Gives any bytes to `image_members`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::image_members(data));
