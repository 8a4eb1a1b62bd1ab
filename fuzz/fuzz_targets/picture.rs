#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| knothole_fuzz::proto::token::picture::fuzz(data));
