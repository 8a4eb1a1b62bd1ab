//! A road between two network namespaces, for `transfer.py path`: the emulator of the tests as a
//! program. README.md beside this file has how to build it.
//!
//! A TUN interface named `road` is made in each namespace, with the addresses 10.77.0.1 and
//! 10.77.0.2. Prints `ready`, and when its stdin ends one line of JSON with what it counted. Each
//! line of stdin may hold options, which hold from then on.
#![allow(
    clippy::disallowed_methods,
    reason = "a program of its own: all effects"
)]

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tun_rs::SyncDevice;

#[path = "../tests/shared/dice.rs"]
mod dice;
#[path = "../tests/shared/road.rs"]
mod road;
#[path = "../tests/shared/tun.rs"]
mod tun;

const NAME: &str = "road";

/// A path between two network namespaces with a delay, a rate, a queue and loss: what netem does,
/// for kernels without it.
#[derive(Parser)]
#[command(args_override_self = true)]
struct Options {
    /// An open file of the first namespace (as of /proc/PID/ns/net)
    #[arg(long, value_name = "FD")]
    a: u32,
    /// An open file of the second
    #[arg(long, value_name = "FD")]
    b: u32,
    #[arg(long, value_name = "MS", default_value_t = 50.0)]
    round_trip: f64,
    #[arg(long, value_name = "MBIT/S", default_value_t = 200.0)]
    rate: f64,
    /// What may wait
    #[arg(long, value_name = "ROUND TRIPS", default_value_t = 1.0)]
    queue: f64,
    /// Packets lost by chance, each way
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    loss: f64,
    /// Packets with which a burst of loss begins
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    bursts: f64,
    /// How long a burst is at most
    #[arg(long, value_name = "MS", default_value_t = 4.0)]
    burst_ms: f64,
    /// Packets that come later by up to half a round trip
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    reordered: f64,
    /// Packets that come twice
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    duplicated: f64,
    /// Each packet is later by up to this, on its own, so that packets change places
    #[arg(long, value_name = "MS", default_value_t = 0.0)]
    jitter: f64,
    /// What may wait until packets are marked (ECN)
    #[arg(long, value_name = "ROUND TRIPS")]
    marks: Option<f64>,
    /// Larger packets vanish without a word
    #[arg(long, value_name = "BYTES")]
    mtu_hole: Option<usize>,
    #[arg(long, value_name = "BYTES", default_value_t = 1500)]
    mtu: u16,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let ends = [
        end(options.a, "10.77.0.1/24", options.mtu)?,
        end(options.b, "10.77.0.2/24", options.mtu)?,
    ];
    let mut road = tun::TunRoad::new(ends, &options.way(), options.seed)?;
    println!("ready");
    let mut words: Vec<String> = env::args().collect();
    for line in io::stdin().lines() {
        words.extend(line?.split_whitespace().map(str::to_owned));
        let way = Options::parse_from(&words).way();
        road.change(|one| *one = way.clone());
    }
    road.end()?;
    let ways = road.counted().map(|way| {
        serde_json::json!({
            "seen": way.seen,
            "lost": way.lost,
            "overflowed": way.overflowed,
            "too_large": way.too_large,
            "duplicated": way.duplicated,
            "marked": way.marked,
        })
    });
    println!("{}", serde_json::Value::from(ways.to_vec()));
    Ok(())
}

impl Options {
    fn way(&self) -> road::Way {
        let ms = |ms: f64| Duration::from_secs_f64(ms / 1000.0);
        let share = |percent: f64| percent / 100.0;
        let clean = road::Way::new(self.round_trip, self.rate);
        let waits = |round_trips: f64| clean.rate * self.round_trip / 1000.0 * round_trips;
        road::Way {
            jitter: ms(self.jitter),
            loss: share(self.loss),
            bursts: (share(self.bursts), ms(self.burst_ms)),
            reordered: share(self.reordered),
            duplicated: share(self.duplicated),
            // Ten packets at the least.
            queue: waits(self.queue).max(15_000.0),
            marks_at: self.marks.map_or(f64::INFINITY, waits),
            largest: self.mtu_hole.unwrap_or(usize::MAX),
            ..clean
        }
    }
}

fn end(namespace: u32, address: &str, mtu: u16) -> Result<SyncDevice> {
    let path = format!("/proc/self/fd/{namespace}");
    let file = File::open(&path).context(path)?;
    tun::inside(file.as_fd(), || {
        let device = tun::open(NAME)?;
        ip(&format!("addr add {address} dev {NAME}"))?;
        ip(&format!("link set {NAME} mtu {mtu} {} up", tun::SETTINGS))?;
        Ok(device)
    })?
}

fn ip(words: &str) -> Result<()> {
    let status = Command::new("ip").args(words.split(' ')).status()?;
    ensure!(status.success(), "ip {words}: {status}");
    Ok(())
}
