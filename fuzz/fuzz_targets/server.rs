#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // The server is new for each input: only that time stands still matters.
    knothole_fuzz::proto::stun::server::fuzz(std::time::Instant::now(), data);
});
