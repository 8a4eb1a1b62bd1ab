#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // The machine is new for each input: only that time stands still matters.
    knothole_fuzz::proto::nat::gateway::fuzz(std::time::Instant::now(), data);
});
