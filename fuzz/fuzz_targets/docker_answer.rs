//! Gives any bytes to `docker_answer`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::docker_answer(data));
