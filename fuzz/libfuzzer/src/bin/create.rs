//! Fuzzes `landfall_fuzz::create`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| landfall_fuzz::create(data));
