//! Fuzzes `landfall_fuzz::hook_transport`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| landfall_fuzz::hook_transport(data));
