//! Fuzzes `landfall_fuzz::location`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| landfall_fuzz::location(data));
