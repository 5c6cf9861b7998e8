//! Fuzzes `landfall_fuzz::upload_id`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| landfall_fuzz::upload_id(data));
