#![no_main]

libfuzzer_sys::fuzz_target!(
    init: knothole_fuzz::allow(384 << 20),
    |data: &[u8]| knothole_fuzz::proto::token::picture::fuzz(data)
);
