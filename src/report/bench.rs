//! What `bench` measured, as its [`BenchReport`] and as a person reads it.

use std::fmt::Write as _;
use std::time::Duration;

use super::human;
use super::model::{
    self, BenchDirection, BenchLink, BenchPath, BenchReport, BenchRoundTrip, PathKind,
};
use crate::proto::app::bench::{Direction, Results};

/// The widest name of a line, with its colon.
const NAME: usize = 11;

/// Puts a report together; `error`: why not everything was measured.
#[must_use]
pub fn report(results: &Results, path: Option<BenchPath>, error: Option<String>) -> BenchReport {
    BenchReport {
        command: "bench".to_owned(),
        error,
        path,
        round_trip: results.round_trip.map(|found| BenchRoundTrip {
            echoes: found.echoes as u64,
            min_ms: model::ms(found.least),
            median_ms: model::ms(found.median),
            max_ms: model::ms(found.most),
            jitter_ms: model::ms(found.jitter),
        }),
        sent: results.sent.as_ref().map(direction),
        received: results.received.as_ref().map(direction),
    }
}

fn direction(found: &Direction) -> BenchDirection {
    let Direction { counted, layer } = found;
    let ms = |micros: Option<u64>| micros.map(|us| model::ms(Duration::from_micros(us)));
    #[expect(
        clippy::cast_sign_loss,
        reason = "`as` saturates, and turns NaN into 0"
    )]
    let rate = counted.rate() as u64;
    let link = BenchLink {
        repairing: layer.on,
        rate: layer.rate,
        rtt_ms: ms(layer.round_trip),
        min_rtt_ms: ms(layer.least),
        frames: layer.frames,
        lost: layer.lost,
        loss_percent: layer.loss().map(|loss| (loss * 1e4).round() / 100.0),
        repairs: layer.repairs,
        late: layer.late,
        given_up: counted.given_up,
    };
    BenchDirection {
        bytes: counted.bytes,
        seconds: counted.us as f64 / 1e6,
        rate,
        slowest: counted.slowest,
        fastest: counted.fastest,
        link: (layer.frames > 0).then_some(link),
    }
}

/// Renders the report in lines of `width` columns; `strong` makes a name stand out.
#[must_use]
pub fn render(report: &BenchReport, width: usize, strong: impl Fn(&str) -> String) -> String {
    let mut text = String::new();
    let mut entry = |name: &str, phrases: &[String]| {
        let name = format!("{name:<NAME$}");
        let name = if name.trim().is_empty() {
            name
        } else {
            strong(&name)
        };
        let lines = flow(phrases, width.saturating_sub(NAME + 1));
        let _ = writeln!(
            text,
            "{name} {}",
            lines.replace('\n', &format!("\n{:NAME$} ", ""))
        );
    };
    if let Some(path) = &report.path {
        entry("Path:", &self::path(path));
    }
    if let Some(found) = &report.round_trip {
        let phrases = [
            format!("{} ms idle", found.median_ms),
            format!("{} to {} ms", found.min_ms, found.max_ms),
            format!("jitter {} ms", found.jitter_ms),
        ];
        entry("Round trip:", &phrases);
    }
    let other = "by the other side";
    for (name, one, counted, told) in [
        ("Sent:", &report.sent, Some(other), None),
        ("Received:", &report.received, None, Some(other)),
    ] {
        if let Some(one) = one {
            entry(name, &carried(one, counted));
            entry("", &link(one.link.as_ref(), told));
        }
    }
    text
}

fn path(path: &BenchPath) -> [String; 3] {
    let (how, kind) = match path.kind {
        PathKind::Host => ("direct", "host"),
        PathKind::Srflx => ("direct", "srflx"),
        PathKind::Prflx => ("direct", "prflx"),
        PathKind::Relay => ("through a relay", "relay"),
    };
    [
        format!("{how} ({kind}, UDP)"),
        format!("from {}", path.local),
        format!("to {}", path.remote),
    ]
}

fn carried(one: &BenchDirection, by: Option<&str>) -> Vec<String> {
    let rate = one.bytes as f64 / one.seconds.max(1e-6);
    let mut phrases = vec![
        human::rate(rate),
        human::bits(rate),
        format!("{} in {:.1} s", human::size(one.bytes), one.seconds),
    ];
    if let (Some(slowest), Some(fastest)) = (one.slowest, one.fastest) {
        phrases.push(format!("slowest second {}", human::size(slowest)));
        phrases.push(format!("fastest {}", human::size(fastest)));
    }
    phrases.extend(by.map(|by| format!("counted {by}")));
    phrases
}

fn link(link: Option<&BenchLink>, by: Option<&str>) -> Vec<String> {
    let Some(link) = link.filter(|link| link.repairing) else {
        return vec![
            "repair layer off".to_owned(),
            "so loss is not known".to_owned(),
        ];
    };
    let mut phrases = vec!["repair layer on".to_owned()];
    phrases.extend(
        link.rate
            .map(|rate| format!("path takes {}", human::rate(rate as f64))),
    );
    phrases.extend(link.rtt_ms.map(|ms| format!("round trip {ms} ms")));
    phrases.extend(link.min_rtt_ms.map(|ms| format!("{ms} ms at least")));
    phrases.extend(link.loss_percent.map(|loss| format!("{loss:.1} % lost")));
    phrases.push(format!("{} repaired", link.repairs));
    if link.late > 0 {
        phrases.push(format!("{} only late", link.late));
    }
    if link.given_up > 0 {
        phrases.push(format!("{} given up", link.given_up));
    }
    phrases.extend(by.map(|by| format!("told {by}")));
    phrases
}

/// Joins phrases with commas, and breaks lines before one that does not fit.
fn flow(phrases: &[String], width: usize) -> String {
    let mut text = String::new();
    let mut column = 0;
    for (at, phrase) in phrases.iter().enumerate() {
        let comma = usize::from(at + 1 < phrases.len());
        if at > 0 && column + 1 + phrase.len() + comma > width {
            text.push('\n');
            column = 0;
        } else if at > 0 {
            text.push(' ');
            column += 1;
        }
        text += phrase;
        text += &","[..comma];
        column += phrase.len() + comma;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::app::bench::RoundTrip;
    use crate::proto::app::message::{Counted, Layer};
    use std::net::SocketAddr;

    fn counted() -> Counted {
        Counted {
            bytes: 176 << 20,
            us: 10_000_000,
            slowest: Some(15 << 20),
            fastest: Some(19 << 20),
            given_up: 3,
        }
    }

    fn layer() -> Layer {
        Layer {
            on: true,
            frames: 100_000,
            lost: 1202,
            repairs: 1300,
            late: 2,
            rate: Some(23 << 20),
            round_trip: Some(62_040),
            least: Some(50_400),
        }
    }

    fn full() -> BenchReport {
        let ms = Duration::from_millis;
        let one = Direction {
            counted: counted(),
            layer: layer(),
        };
        let bare = Direction {
            counted: Counted {
                slowest: None,
                fastest: None,
                us: 400_000,
                ..counted()
            },
            layer: Layer {
                frames: 5,
                ..Layer::default()
            },
        };
        let results = Results {
            round_trip: Some(RoundTrip {
                echoes: 20,
                least: ms(50),
                median: ms(51),
                most: ms(155),
                jitter: Duration::from_micros(440),
            }),
            sent: Some(one),
            received: Some(bare),
        };
        let path = BenchPath {
            kind: PathKind::Prflx,
            protocol: "udp".into(),
            local: SocketAddr::from(([192, 168, 1, 10], 40801)),
            remote: SocketAddr::from(([192, 168, 1, 20], 39774)),
        };
        report(&results, Some(path), None)
    }

    #[test]
    fn a_wide_screen_and_a_narrow_one_show_the_same() {
        let plain = |name: &str| name.to_owned();
        let wide = render(&full(), 80, plain);
        assert_eq!(
            wide,
            "\
Path:       direct (prflx, UDP), from 192.168.1.10:40801, to 192.168.1.20:39774
Round trip: 51 ms idle, 50 to 155 ms, jitter 0.4 ms
Sent:       18 MiB/s, 148 Mbit/s, 176 MiB in 10.0 s, slowest second 15 MiB,
            fastest 19 MiB, counted by the other side
            repair layer on, path takes 23 MiB/s, round trip 62 ms,
            50.4 ms at least, 1.2 % lost, 1300 repaired, 2 only late, 3 given up
Received:   440 MiB/s, 3.7 Gbit/s, 176 MiB in 0.4 s
            repair layer off, so loss is not known
"
        );
        let narrow = render(&full(), 40, plain);
        assert!(narrow.lines().all(|line| line.len() <= 40), "{narrow}");
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(&narrow), words(&wide));
    }

    #[test]
    fn what_the_peer_told_is_marked_and_what_nobody_measured_is_null() {
        let mut report = full();
        std::mem::swap(&mut report.sent, &mut report.received);
        let text = render(&report, 200, str::to_owned);
        assert!(text.contains("Received:   18 MiB/s, 148 Mbit/s, 176 MiB in 10.0 s, slowest second 15 MiB, fastest 19 MiB\n"), "{text}");
        assert!(
            text.contains("3 given up, told by the other side\n"),
            "{text}"
        );
        let off = report.sent.unwrap().link.unwrap();
        assert_eq!((off.repairing, off.frames), (false, 5));
        assert_eq!((off.rate, off.rtt_ms, off.loss_percent), (None, None, None));
        assert_eq!(
            report.received.unwrap().link.unwrap().loss_percent,
            Some(1.2)
        );
        let nothing = Direction {
            counted: counted(),
            layer: Layer::default(),
        };
        assert_eq!(direction(&nothing).link, None, "nothing went through it");
    }

    #[test]
    fn the_worst_a_peer_may_tell_is_shown_in_short_lines() {
        let most = (1 << 53) - 1;
        let one = Direction {
            counted: Counted {
                bytes: most,
                us: 1,
                slowest: Some(most),
                fastest: Some(most),
                given_up: most,
            },
            layer: Layer {
                on: true,
                frames: 1,
                lost: most,
                repairs: most,
                late: 0,
                rate: Some(most),
                round_trip: Some(most),
                least: Some(most),
            },
        };
        let results = Results {
            received: Some(one),
            ..Results::default()
        };
        let text = render(&report(&results, None, None), 40, str::to_owned);
        assert!(text.lines().all(|line| line.len() <= 45), "{text}");
        assert!(text.contains("100.0 % lost"), "{text}");
    }
}
