#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| knothole_fuzz::report::human::fuzz(data));
