//! See `cross_tests::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cross_tests::fuzz::run("page_codecs", bytes));
