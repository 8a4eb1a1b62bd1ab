//! The pure rooms of knothole by themselves, for the fuzzer: nothing of the network or the system
//! is compiled with them, which also shows that they need none of it.

#[path = "../../src/io/files/name.rs"]
pub mod name;
#[path = "../../src/proto/mod.rs"]
pub mod proto;
#[path = "../../src/report/mod.rs"]
pub mod report;

/// A decoder that needs more than this for one input holds too much of what a peer says.
const MOST_MEMORY: usize = 64 << 20;

#[global_allocator]
static MEMORY: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, MOST_MEMORY);

/// Lets one input take so many bytes, where decoding is bounded by more: a picture.
pub fn allow(bytes: usize) {
    MEMORY
        .set_limit(bytes)
        .expect("the limit is above what is held at the start");
}

/// Judges the names in `data`, one a line, as names of files that a peer offers.
///
/// # Panics
///
/// When an accepted name is more than one plain component of a path, or is shown as another than
/// it is; when a refusal repeats it.
pub fn name(data: &[u8]) {
    use name::{MAX_NAME_BYTES, PART_PREFIX, PeerName};
    use report::sanitize::Shown;
    use std::path::{Component, Path};

    let text = String::from_utf8_lossy(data);
    for line in text.split('\n') {
        match PeerName::judge(line) {
            Ok(name) => {
                let name = name.as_str();
                assert!(name == line && name.len() <= MAX_NAME_BYTES);
                assert!(!name.starts_with(PART_PREFIX) && name.trim() == name);
                let parts: Vec<_> = Path::new(name).components().collect();
                assert_eq!(parts, [Component::Normal(name.as_ref())]);
                // What attaches to nothing is escaped; nothing else has to be.
                let attaches = |c| {
                    matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
                        || unicode_normalization::char::is_combining_mark(c)
                };
                let shown = format!("{:.4000}", Shown(name));
                assert!(shown == name || name.contains(attaches), "{shown}");
            }
            Err(problem) => {
                let said = problem.to_string();
                assert!(
                    said.len() < 200 && !said.chars().any(char::is_control),
                    "{said}"
                );
            }
        }
    }
    let names: Vec<&str> = text.split('\n').collect();
    if let Ok(accepted) = PeerName::judge_all(&names) {
        let mut plain: Vec<_> = accepted
            .iter()
            .map(|name| name.as_str().to_lowercase())
            .collect();
        plain.sort();
        plain.dedup();
        assert_eq!(plain.len(), names.len(), "two names for one file");
    }
}
