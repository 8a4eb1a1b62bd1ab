//! The link is cut after message n, for every n, in either direction.

use knothole::proto::app::{Outcome, OutcomeKind};

use crate::world::{Actor, Cut, Direction, InFlight, Scenario, World};

#[test]
fn every_message_boundary_is_survived() {
    let mut cuts = 0;
    for seed in 0..12 {
        for direction in [Direction::ToReceiver, Direction::ToSender] {
            for in_flight in [InFlight::Lost, InFlight::Delivered] {
                for after in 0.. {
                    // Every third with words to compare, at the wish of one side or of both.
                    let verify = [
                        &[][..],
                        &[Actor::Receiver],
                        &[Actor::Sender, Actor::Receiver],
                    ];
                    let scenario = Scenario::files(&[0, 17, 40, 1, 0, 9])
                        .stream(2)
                        .verified(verify[seed as usize % 3]);
                    if !survives_cut(
                        scenario,
                        seed,
                        Cut {
                            direction,
                            after,
                            in_flight,
                        },
                    ) {
                        break;
                    }
                    cuts += 1;
                }
            }
        }
    }
    // Both directions were really cut at many places, not stopped by the first `break`.
    assert!(cuts > 12 * 2 * (8 + 20), "{cuts}");
}

#[test]
fn a_long_queue_of_small_files_is_survived() {
    let sizes: Vec<usize> = (0..150).map(|n| n % 3).collect();
    for after in (0..460).step_by(7) {
        for direction in [Direction::ToReceiver, Direction::ToSender] {
            let cut = Cut {
                direction,
                after,
                in_flight: InFlight::Lost,
            };
            let scenario = Scenario {
                slow_disk: after % 2 == 1,
                ..Scenario::files(&sizes)
            };
            survives_cut(scenario, after as u64, cut);
        }
    }
}

#[test]
fn without_a_cut_both_sides_are_done_and_close_without_waiting() {
    for seed in 0..200 {
        let world = World::run(Scenario::files(&[5, 0, 70, 3]).stream(0), seed);
        assert_eq!(world.sender_outcome(), &Outcome::Done);
        assert_eq!(world.receiver_outcome(), &Outcome::Done);
    }
}

#[test]
fn ten_thousand_files_cross_in_many_manifests() {
    let world = World::run(Scenario::files(&[0; 10_000]), 1);
    assert_eq!(world.receiver_outcome(), &Outcome::Done);
    assert_eq!(world.visible.len(), 10_000);
}

#[test]
fn a_slow_disk_holds_the_sender_back_at_sixty_four_files() {
    let world = World::run(
        Scenario {
            slow_disk: true,
            ..Scenario::files(&[1; 200])
        },
        1,
    );
    assert_eq!(world.sender_outcome(), &Outcome::Done);
    assert_eq!(world.most_unacked(), 64);
}

/// Runs to the end; returns whether the cut came before it.
fn survives_cut(scenario: Scenario, seed: u64, cut: Cut) -> bool {
    let count = scenario.sources.len();
    let world = World::run(
        Scenario {
            cut: Some(cut),
            ..scenario
        },
        seed,
    );
    // The truth, from what crossed the link and what lies on the disk.
    let sender_knows = world.acks_delivered == count;
    let receiver_has = world.visible.len() == count;
    let label = format!("seed {seed}, {cut:?}");
    let expect = |done| if done { Outcome::Done } else { Outcome::Lost };
    assert_eq!(world.sender_outcome(), &expect(sender_knows), "{label}");
    assert_eq!(world.receiver_outcome(), &expect(receiver_has), "{label}");
    let failed = world.sender_outcome().kind() == OutcomeKind::Failed;
    assert!(!world.was_cut || sender_knows || failed, "{label}");
    world.was_cut
}
