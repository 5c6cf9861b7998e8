//! Fuzzes `landfall_fuzz::authentication`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| landfall_fuzz::authentication(data));
