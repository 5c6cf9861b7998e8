//! Fuzzes `landfall_fuzz::trailers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| landfall_fuzz::trailers(data));
