//! Fuzzes `landfall_fuzz::part_url`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| landfall_fuzz::part_url(data));
