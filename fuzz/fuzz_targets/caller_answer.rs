//! Fuzzes `landfall_fuzz::caller_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| landfall_fuzz::caller_answer(data));
