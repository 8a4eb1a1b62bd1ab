#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| knothole::proto::sdp::fuzz(data));
