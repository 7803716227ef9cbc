//! Gives any bytes to `fiemap`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::fiemap(data));
