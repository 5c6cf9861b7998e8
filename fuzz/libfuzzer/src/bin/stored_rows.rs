//! Fuzzes `landfall_fuzz::stored_rows`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| landfall_fuzz::stored_rows(data));
