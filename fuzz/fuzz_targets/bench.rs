#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| knothole_fuzz::proto::app::fuzz_bench(
    data,
    std::time::Instant::now()
));
