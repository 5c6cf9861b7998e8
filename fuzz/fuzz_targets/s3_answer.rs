//! Fuzzes `landfall_fuzz::s3_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| landfall_fuzz::s3_answer(data));
