//! Fuzzes `landfall_fuzz::concat`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| landfall_fuzz::concat(data));
