#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| knothole_fuzz::proto::link::repair::fuzz_frame(data));
