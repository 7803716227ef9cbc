//! Gives any bytes to `image_blob`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::image_blob(data));
