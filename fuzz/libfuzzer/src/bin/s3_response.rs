//! Fuzzes `landfall_fuzz::s3_response`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| landfall_fuzz::s3_response(data));
