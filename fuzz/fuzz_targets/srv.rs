#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    knothole_fuzz::proto::stun::srv::fuzz(data);
});
