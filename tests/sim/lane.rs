//! The model of a road itself: what it is asked for, it does.

use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::road::{Carried, Counted, Lane, Way, mark};

const MS: Duration = Duration::from_millis(1);

#[test]
fn packets_leave_at_the_rate_and_arrive_after_the_delay() {
    let (mut lane, start, mut dice) = lane(Way::new(50.0, 8.0));
    // A byte each microsecond.
    for nth in 1..=10 {
        let carried = lane.carry(start, 1000, &mut dice);
        assert_eq!(once(&carried), start + nth * MS + 25 * MS);
    }
    assert_eq!(lane.counted.waited, (0..10).sum::<u32>() * MS);
    let later = start + 100 * MS;
    let carried = lane.carry(later, 500, &mut dice);
    assert_eq!(once(&carried), later + MS / 2 + 25 * MS, "it was idle");
}

#[test]
fn what_is_more_than_the_rate_fills_the_queue_and_then_overflows() {
    let mut way = Way::new(50.0, 8.0);
    way.queue = 20_000.0;
    let (mut lane, start, mut dice) = lane(way);
    let at_once = (0..30).filter(|_| arrives(&mut lane, start, &mut dice));
    assert_eq!(at_once.count(), 20);
    // Twice the rate for ten seconds: half of it finds no room.
    let mut last = start;
    let mut taken = 0;
    for nth in 0..20_000_u32 {
        let now = start + MS * 20 + MS / 2 * nth;
        if let Some(at) = lane.carry(now, 1000, &mut dice).arrivals[0] {
            assert!(at > last && at - now <= 20 * MS + 25 * MS, "{:?}", at - now);
            (last, taken) = (at, taken + 1);
        }
    }
    assert!((10_000..=10_020).contains(&taken), "{taken}");
    let counted = lane.counted;
    assert_eq!(counted.overflowed, 10 + 20_000 - taken);
    assert_eq!((counted.seen, counted.lost), (20_030, 0));
}

#[test]
fn the_same_seed_has_the_same_fates_and_another_has_others() {
    let fates = |seed| {
        let mut way = Way::new(50.0, 80.0);
        (way.loss, way.reordered, way.duplicated) = (0.05, 0.05, 0.05);
        way.bursts = (0.001, 20 * MS);
        way.jitter = 3 * MS;
        let (mut lane, start, _) = lane(way);
        let mut dice = Dice::new(seed);
        let fates = (0..2000).map(|nth| {
            let now = start + MS / 8 * nth;
            let arrivals = lane.carry(now, 1000, &mut dice).arrivals;
            arrivals.map(|at| at.map(|at| at - now))
        });
        fates.collect::<Vec<_>>()
    };
    assert_eq!(fates(1), fates(1));
    assert_ne!(fates(1), fates(2));
}

#[test]
fn chance_is_as_asked() {
    let count = |change: fn(&mut Way)| {
        let mut way = Way::new(50.0, 800.0);
        change(&mut way);
        let (mut lane, start, mut dice) = lane(way);
        let (mut arrived, mut late, mut before) = (0, 0, start);
        for nth in 0..100_000 {
            let now = start + MS * nth;
            for at in lane
                .carry(now, 1000, &mut dice)
                .arrivals
                .into_iter()
                .flatten()
            {
                late += u64::from(at < before || at > now + 26 * MS);
                (arrived, before) = (arrived + 1, at);
            }
        }
        let counted = lane.counted;
        assert_eq!(arrived, counted.seen - counted.lost + counted.duplicated);
        (counted, late)
    };
    let all = Counted {
        seen: 100_000,
        ..Counted::default()
    };
    assert_eq!(count(|_| ()), (all, 0), "nothing happens unasked");

    let (counted, _) = count(|way| way.loss = 0.01);
    assert!((900..1100).contains(&counted.lost), "{counted:?}");
    let (counted, _) = count(|way| way.duplicated = 0.01);
    assert!((900..1100).contains(&counted.duplicated), "{counted:?}");
    let (_, late) = count(|way| way.reordered = 0.01);
    assert!((800..2000).contains(&late), "{late}");
    // A burst of up to 20 ms, ten on average, begins with each thousandth packet.
    let (counted, _) = count(|way| way.bursts = (0.001, 20 * MS));
    assert!((700..1300).contains(&counted.lost), "{counted:?}");
}

#[test]
fn jitter_is_half_of_what_it_may_be_on_average_and_changes_the_order() {
    let mut way = Way::new(50.0, 800.0);
    way.jitter = 10 * MS;
    let (mut lane, start, mut dice) = lane(way);
    let (mut sum, mut changed, mut before) = (Duration::ZERO, 0, start);
    for nth in 0..10_000 {
        let now = start + MS * nth;
        let at = once(&lane.carry(now, 100, &mut dice));
        let late = at - (now + 25 * MS);
        assert!(late <= 10 * MS + MS / 100, "{late:?}");
        sum += late;
        changed += u64::from(at < before);
        before = at;
    }
    let mean = sum / 10_000;
    assert!(
        (MS.mul_f64(4.8)..MS.mul_f64(5.2)).contains(&mean),
        "{mean:?}"
    );
    assert!(changed > 1000, "{changed}");
}

#[test]
fn larger_packets_vanish_and_change_nothing_for_the_others() {
    let fates = |large: bool| {
        let mut way = Way::new(50.0, 80.0);
        (way.loss, way.largest) = (0.1, 1300);
        let (mut lane, start, mut dice) = lane(way);
        let mut fates = vec![];
        for nth in 0..1000 {
            let now = start + MS * nth;
            if large {
                let carried = lane.carry(now, 1301, &mut dice);
                assert_eq!(carried.arrivals, [None; 2]);
            }
            let arrivals = lane.carry(now, 1300, &mut dice).arrivals;
            fates.push(arrivals.map(|at| at.map(|at| at - now)));
        }
        (fates, lane.counted.too_large)
    };
    let (without, with) = (fates(false), fates(true));
    assert_eq!(without.0, with.0);
    assert_eq!((without.1, with.1), (0, 1000));
}

#[test]
fn marks_come_with_a_queue_and_settings_may_change() {
    let mut way = Way::new(50.0, 8.0);
    way.marks_at = 5000.0;
    let (mut lane, start, mut dice) = lane(way);
    let marked = (0..10).filter(|_| lane.carry(start, 1000, &mut dice).marked);
    assert_eq!(marked.count(), 4, "behind more than five");
    assert_eq!(lane.counted.marked, 4);

    lane.way.rate /= 10.0;
    let later = start + 20 * MS;
    let at = once(&lane.carry(later, 1000, &mut dice));
    assert_eq!(at, later + 10 * MS + 25 * MS, "a tenth of the rate");
    lane.way.loss = 1.0;
    assert!(!arrives(&mut lane, later, &mut dice));
}

#[test]
fn a_mark_is_set_where_it_was_asked_for_and_the_checksum_holds() {
    for tos in 0..=255_u8 {
        let mut four = [
            0x45, tos, 0x05, 0xdc, 0x12, 0x34, 0x40, 0x00, 0x40, 0x11, 0, 0, 10, 77, 0, 1, 10, 77,
            0, 2,
        ];
        let checksum = checksum_of(&four);
        four[10..12].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(checksum_of(&four), 0);
        let before = four;
        let asked = tos & 3 != 0;
        assert_eq!(mark(&mut four), asked, "{tos:#x}");
        assert_eq!(four[1], if asked { tos | 3 } else { tos });
        assert_eq!(checksum_of(&four), 0, "{tos:#x}");
        let untouched = |packet: &[u8; 20]| [packet[0], packet[8], packet[19]];
        assert_eq!(untouched(&four), untouched(&before));

        let mut six = [0; 40];
        [six[0], six[1]] = [0x60 | tos >> 4, tos << 4 | 5];
        assert_eq!(mark(&mut six), asked);
        let class = six[0] << 4 | six[1] >> 4;
        assert_eq!(class, if asked { tos | 3 } else { tos });
        assert_eq!((six[0] >> 4, six[1] & 0xf), (6, 5));
    }
    for junk in [&mut [][..], &mut [0x45, 1], &mut [0x65], &mut [0; 60]] {
        assert!(!mark(junk));
    }
}

/// RFC 1071: 0 of a header that holds the right one.
fn checksum_of(header: &[u8]) -> u16 {
    let words = header
        .chunks(2)
        .map(|two| u32::from(two[0]) << 8 | u32::from(two[1]));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

fn lane(way: Way) -> (Lane, Instant, Dice) {
    let now = Instant::now();
    (Lane::new(way, now), now, Dice::new(1))
}

fn arrives(lane: &mut Lane, now: Instant, dice: &mut Dice) -> bool {
    lane.carry(now, 1000, dice).arrivals[0].is_some()
}

fn once(carried: &Carried) -> Instant {
    assert_eq!(carried.arrivals[1], None);
    carried.arrivals[0].expect("it arrives")
}
