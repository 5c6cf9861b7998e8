//! Fuzzes `landfall_fuzz::fields`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| landfall_fuzz::fields(data));
