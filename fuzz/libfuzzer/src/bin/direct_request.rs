//! Fuzzes `landfall_fuzz::direct_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| landfall_fuzz::direct_request(data));
