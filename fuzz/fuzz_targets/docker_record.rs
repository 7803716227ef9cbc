//! Gives any bytes to `docker_record`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::docker_record(data));
