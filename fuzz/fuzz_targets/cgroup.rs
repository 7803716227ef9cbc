//! Gives any bytes to `cgroup`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::cgroup(data));
