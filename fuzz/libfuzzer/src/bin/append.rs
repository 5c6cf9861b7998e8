//! Fuzzes `landfall_fuzz::append`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| landfall_fuzz::append(data));
