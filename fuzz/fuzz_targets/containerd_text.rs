//! Gives any bytes to `containerd_text`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_host::fuzzing::containerd_text(data));
