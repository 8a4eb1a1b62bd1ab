//! A road over a pair of TUN interfaces, one in each of two network namespaces: the model of
//! [`crate::road`] with packets of the kernel and time of the machine. What netem does, for kernels
//! without it.
//!
//! One thread takes packets from each interface, asks the model when each is to arrive, and writes
//! it to the other interface then. Linux, as root.

use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::setpriority_process;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space, set_current_timer_slack};
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::dice::Dice;
use crate::road::{Counted, Lane, Way, mark};

const DEVICE: &str = "/dev/net/tun";
/// What the interface is to be told with `ip link set NAME`. Its own queue comes before the road:
/// the kernel's 500 packets would lose bursts before the road has seen them.
pub const SETTINGS: &str = "txqueuelen 10000";
/// How long a road with packets on it sleeps between two looks: to wake up for each packet would
/// cost more than all the rest. A packet is seen up to this late, and handed over up to this early.
const GRAIN: Duration = Duration::from_micros(200);
/// Packets that are taken at one look, so that what is due does not wait for long.
const BATCH: usize = 256;
/// Of a packet at most, in bytes.
const LARGEST: usize = 65_536;

/// Runs `work` on a thread in this network namespace: a namespace is a property of a thread.
pub fn inside<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
            Ok(work())
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Makes one end in the namespace of this thread: an interface of this name, to be given
/// [`SETTINGS`] and addresses. It goes when the end does.
pub fn open(name: &str) -> io::Result<SyncDevice> {
    // The crate would make the device node.
    if !Path::new(DEVICE).exists() {
        return Err(io::Error::new(io::ErrorKind::NotFound, DEVICE));
    }
    let device = DeviceBuilder::new().name(name).build_sync()?;
    device.set_nonblocking(true)?;
    Ok(device)
}

/// A road in use. It ends when dropped, and so do its interfaces.
pub struct TunRoad {
    lanes: Arc<Mutex<[Lane; 2]>>,
    /// Its end is what the thread waits for.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl TunRoad {
    /// Both ways are alike; the first leads from the first end to the second.
    pub fn new(ends: [SyncDevice; 2], way: &Way, seed: u64) -> io::Result<Self> {
        let (stopped, stop) = io::pipe()?;
        let now = Instant::now();
        let lanes = [(); 2].map(|()| Lane::new(way.clone(), now));
        let lanes = Arc::new(Mutex::new(lanes));
        let driver = Driver {
            lanes: Arc::clone(&lanes),
            ends,
            dice: [2 * seed, 2 * seed + 1].map(Dice::new),
            waiting: Default::default(),
            buffer: vec![0; LARGEST],
            stopped,
        };
        Ok(Self {
            lanes,
            stop: Some(stop),
            thread: Some(thread::spawn(|| driver.run())),
        })
    }

    /// Changes both ways from now on.
    pub fn change(&self, change: impl FnMut(&mut Way)) {
        let mut lanes = lock(&self.lanes);
        lanes.iter_mut().map(|lane| &mut lane.way).for_each(change);
    }

    /// What each way has done so far.
    pub fn counted(&self) -> [Counted; 2] {
        let lanes = lock(&self.lanes);
        [lanes[0].counted, lanes[1].counted]
    }

    /// Ends it, and says whether it was in order until then.
    pub fn end(&mut self) -> io::Result<()> {
        drop(self.stop.take());
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for TunRoad {
    fn drop(&mut self) {
        if let Err(error) = self.end()
            && !thread::panicking()
        {
            panic!("a road broke: {error}");
        }
    }
}

struct Driver {
    lanes: Arc<Mutex<[Lane; 2]>>,
    ends: [SyncDevice; 2],
    dice: [Dice; 2],
    /// What is on each way, by the time at which it arrives.
    waiting: [VecDeque<(Instant, Vec<u8>)>; 2],
    buffer: Vec<u8>,
    stopped: PipeReader,
}

impl Driver {
    fn run(mut self) -> io::Result<()> {
        // By default timers are 50 µs late.
        set_current_timer_slack(1_u64.try_into().ok())?;
        // Before busy programs, or they would add to the delay; where that is not allowed, they do.
        let _ = setpriority_process(None, -20);
        loop {
            let mut busy = false;
            for way in 0..2 {
                busy |= self.take(way)?;
                busy |= self.give(way, Instant::now() + GRAIN)?;
            }
            if self.is_over(busy)? {
                return Ok(());
            }
        }
    }

    /// Takes what has come, and says whether anything had.
    fn take(&mut self, way: usize) -> io::Result<bool> {
        let mut lanes = lock(&self.lanes);
        let waiting = &mut self.waiting[way];
        for taken in 0..BATCH {
            let len = match self.ends[way].recv(&mut self.buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(taken > 0),
                Err(error) => return Err(error),
            };
            let packet = &mut self.buffer[..len];
            // Not before it has come, or on a busy machine it would arrive too early.
            let now = Instant::now();
            let carried = lanes[way].carry(now, len, &mut self.dice[way]);
            if carried.marked {
                mark(packet);
            }
            for at in carried.arrivals.into_iter().flatten() {
                // Most come behind all others.
                let place = waiting.partition_point(|(other, _)| *other <= at);
                waiting.insert(place, (at, packet.to_vec()));
            }
        }
        Ok(true)
    }

    /// Hands over what arrives until then, and says whether anything did.
    fn give(&mut self, way: usize, until: Instant) -> io::Result<bool> {
        let mut given = false;
        while let Some((_, packet)) = self.waiting[way].pop_front_if(|(at, _)| *at <= until) {
            self.ends[1 - way].send(&packet)?;
            given = true;
        }
        Ok(given)
    }

    /// Waits for packets, if it is not `busy` with some, and for the end. Returns whether that has
    /// come.
    fn is_over(&self, busy: bool) -> io::Result<bool> {
        let mut fds = vec![PollFd::new(&self.stopped, PollFlags::IN)];
        let rest = if busy {
            Some(GRAIN)
        } else {
            fds.extend(self.ends.iter().map(|end| PollFd::new(end, PollFlags::IN)));
            let fronts = self.waiting.iter().filter_map(VecDeque::front);
            let next = fronts.map(|(at, _)| *at).min();
            next.map(|at| at.saturating_duration_since(Instant::now()))
        };
        let rest = rest.map(|rest| Timespec {
            tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: rest.subsec_nanos().into(),
        });
        match poll(&mut fds, rest.as_ref()) {
            Ok(_) => Ok(!fds[0].revents().is_empty()),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn lock(lanes: &Mutex<[Lane; 2]>) -> MutexGuard<'_, [Lane; 2]> {
    lanes.lock().unwrap_or_else(PoisonError::into_inner)
}
