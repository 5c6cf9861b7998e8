//! Fuzzes `landfall_fuzz::draft_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| landfall_fuzz::draft_request(data));
