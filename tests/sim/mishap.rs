//! Honest machines, unlucky surroundings: people, disks and files that change.

use knothole::proto::app::{
    CancelReason, DeclineReason, Outcome, OutcomeKind, Problem, Remedy, Side,
};

use crate::world::{Actor, Scenario, World};

const SIZES: [usize; 5] = [12, 0, 30, 7, 20];

#[test]
fn a_declined_offer_moves_nothing_and_tells_both_why() {
    for seed in 0..20 {
        let decline = Some(DeclineReason::NoTerminal);
        let world = World::run(
            Scenario {
                decline,
                ..Scenario::files(&SIZES)
            },
            seed,
        );
        for (outcome, side) in [
            (world.sender_outcome(), Side::There),
            (world.receiver_outcome(), Side::Here),
        ] {
            assert_eq!(outcome.kind(), OutcomeKind::Declined);
            let Outcome::Declined { by, reason, text } = outcome else {
                panic!()
            };
            assert_eq!(
                (*by, *reason, text.as_str()),
                (side, DeclineReason::NoTerminal, "said so")
            );
        }
        assert!(world.visible.is_empty());
    }
}

#[test]
fn words_that_are_not_found_the_same_end_both_sides_with_nothing_told() {
    for seed in 0..20 {
        for actor in [Actor::Sender, Actor::Receiver] {
            for (reason, kind) in [
                (CancelReason::Words, OutcomeKind::Verification),
                (CancelReason::NoTerminal, OutcomeKind::Declined),
            ] {
                let scenario = Scenario {
                    differ: Some((actor, reason)),
                    ..Scenario::files(&SIZES).verified(&[Actor::Receiver])
                };
                let world = World::run(scenario, seed);
                for (outcome, here) in [
                    (world.sender_outcome(), Actor::Sender),
                    (world.receiver_outcome(), Actor::Receiver),
                ] {
                    assert_eq!(outcome.kind(), kind, "{outcome:?}");
                    let Outcome::Cancelled { by, .. } = outcome else {
                        panic!("{outcome:?}")
                    };
                    assert_eq!(*by == Side::Here, here == actor, "{outcome:?}");
                }
                assert!(world.visible.is_empty());
                assert_eq!(world.receiver.files(), []);
            }
        }
    }
}

#[test]
fn a_person_may_stop_at_any_step_on_either_side() {
    for seed in 0..4 {
        let verify: &[Actor] = if seed % 2 == 0 { &[] } else { &[Actor::Sender] };
        for actor in [Actor::Sender, Actor::Receiver] {
            for step in 1..150 {
                let cancel = Some((actor, step));
                let world = World::run(
                    Scenario {
                        cancel,
                        ..Scenario::files(&SIZES).verified(verify)
                    },
                    seed,
                );
                let (here, there) = match actor {
                    Actor::Sender => (world.sender_outcome(), world.receiver_outcome()),
                    Actor::Receiver => (world.receiver_outcome(), world.sender_outcome()),
                };
                let label = format!("seed {seed}, {actor:?}, step {step}: {here:?} {there:?}");
                assert!(
                    matches!(here.kind(), OutcomeKind::Interrupted | OutcomeKind::Done),
                    "{label}"
                );
                match there {
                    Outcome::Done => {}
                    Outcome::Cancelled { by, reason, .. } => {
                        assert_eq!((*by, *reason), (Side::There, CancelReason::User), "{label}");
                        assert_eq!(here.kind(), OutcomeKind::Interrupted, "{label}");
                    }
                    _ => panic!("{label}"),
                }
            }
        }
    }
}

#[test]
fn a_bit_flipped_anywhere_is_caught_before_the_file_is_visible() {
    for seed in 0..4 {
        for nth in 0..12 {
            let world = World::run(
                Scenario {
                    flip: Some(nth),
                    ..Scenario::files(&SIZES)
                },
                seed,
            );
            assert_eq!(world.receiver_outcome().kind(), OutcomeKind::Verification);
            assert_eq!(world.sender_outcome().kind(), OutcomeKind::Verification);
            let named = |outcome: &Outcome| match outcome {
                Outcome::Verification { file, .. } => file.clone().unwrap(),
                _ => panic!(),
            };
            let file = named(world.receiver_outcome());
            assert_eq!(named(world.sender_outcome()), file);
            assert!(!world.visible.contains_key(&file.index));
        }
    }
}

#[test]
fn a_full_disk_is_told_to_both_and_earlier_files_stay() {
    for seed in 0..40 {
        let world = World::run(
            Scenario {
                disk_full: Some(2),
                ..Scenario::files(&SIZES)
            },
            seed,
        );
        let Outcome::Failed {
            file,
            problem: Problem::Write(_),
        } = world.receiver_outcome()
        else {
            panic!("{:?}", world.receiver_outcome())
        };
        assert_eq!(file.index, 2);
        assert_eq!(
            world.sender_outcome().to_string(),
            "the other side cancelled: it could not write, at file 2 (no space left on device)"
        );
        assert_eq!(world.sender_outcome().remedy(), Remedy::There);
        assert!(!world.visible.contains_key(&2));
    }
}

#[test]
fn a_file_that_shrinks_grows_changes_or_cannot_be_read_is_named() {
    for seed in 0..20 {
        for (announced, fails_at, changed, want) in [
            (
                Some(40),
                None,
                false,
                "file 2 shrank while being sent, from 40 bytes to 30",
            ),
            (
                Some(29),
                None,
                false,
                "file 2 grew while being sent, past 29 bytes",
            ),
            (
                Some(0),
                None,
                false,
                "file 2 grew while being sent, past 0 bytes",
            ),
            (Some(30), None, true, "file 2 changed while being sent"),
            (
                Some(30),
                Some(11),
                false,
                "file 2 cannot be read: input/output error",
            ),
            (
                None,
                Some(11),
                false,
                "file 2 cannot be read: input/output error",
            ),
        ] {
            let mut scenario = Scenario::files(&SIZES);
            let source = &mut scenario.sources[2];
            (source.announced, source.fails_at, source.changed) = (announced, fails_at, changed);
            let world = World::run(scenario, seed);
            assert_eq!(world.sender_outcome().to_string(), want);
            let Outcome::Cancelled {
                by: Side::There,
                reason,
                file,
                ..
            } = world.receiver_outcome()
            else {
                panic!("{:?}", world.receiver_outcome())
            };
            assert!(matches!(reason, CancelReason::Changed | CancelReason::Read));
            assert_eq!(file.as_ref().unwrap().index, 2);
            assert!(!world.visible.contains_key(&2));
            assert_eq!(world.receiver_outcome().remedy(), Remedy::There);
        }
    }
}
