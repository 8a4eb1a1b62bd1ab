//! The repair layer of one connection, between the crate's datagrams and the sockets.
//!
//! [`Repair`] decides; this keeps it, knows the way that its frames take, and says when it wants
//! to be driven. Whoever has a socket at hand drives it: a socket that was just given a datagram,
//! or read one, and the endpoint's timer.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::proto::link::repair::frame::Keys;
use crate::proto::link::repair::{Repair, Stats};

/// Datagrams and bytes that are handed to the kernel in one go (the kernel's own bounds).
const MOST_FRAMES: usize = 64;
const MOST_BYTES: usize = 60_000;
/// When the socket was full.
const FULL_AGAIN: Duration = Duration::from_millis(1);

/// A way between the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The address that our socket is bound to.
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub relayed: bool,
}

/// Frames of one size (the last may be shorter), and whether routers may mark them.
#[derive(Debug)]
pub struct Batch {
    pub frames: Vec<u8>,
    pub size: usize,
    pub markable: bool,
}

/// Shared by all sockets of one connection.
#[derive(Debug, Default)]
pub struct Layer {
    inner: Mutex<Inner>,
    /// Rings when the time to be driven has moved ahead.
    pub sooner: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    repair: Option<Repair>,
    /// ICE has found a path: before that the crate drops what it is given.
    open: bool,
    /// Of what this side sends.
    way: Option<Way>,
    /// What a full socket did not take.
    stuck: Option<Batch>,
    /// Until when the timer sleeps; `None`: until it is rung.
    sleeps_until: Option<Instant>,
}

impl Layer {
    /// For a connection with another knothole: frames are read once it is [open](Self::open), and
    /// sent if this side `sends` any. `seed` must be unpredictable; `room`: what our socket holds.
    pub fn start(&self, keys: Keys, seed: u64, room: u32, sends: bool) {
        let mut repair = Repair::new(Instant::now(), keys, seed, room);
        if sends {
            repair.allow();
        }
        *self.lock() = Inner {
            repair: Some(repair),
            ..Inner::default()
        };
    }

    /// No layer: for a plain peer, or until the next one is known. What waited is forgotten.
    pub fn stop(&self) {
        *self.lock() = Inner::default();
    }

    /// ICE has found a path.
    pub fn open(&self) {
        self.lock().open = true;
    }

    /// The peer said that it understands no such frames.
    pub fn forbid(&self) {
        if let Some(repair) = &mut self.lock().repair {
            repair.forbid();
        }
    }

    /// A check of the path that is in use was answered.
    pub fn handle_round_trip(&self, sample: Duration) {
        if let Some(repair) = &mut self.lock().repair {
            repair.handle_round_trip(sample);
        }
    }

    /// Takes datagrams of DTLS, each `step` long, if they are to travel in frames.
    #[must_use]
    pub fn take(&self, way: Way, contents: &[u8], step: usize) -> bool {
        let mut inner = self.lock();
        let Inner {
            repair: Some(repair),
            way: before,
            ..
        } = &mut *inner
        else {
            return false;
        };
        let now = Instant::now();
        let same = *before == Some(way);
        if !same && before.replace(way).is_some() {
            repair.handle_path(now);
        }
        if !repair.wants(now) {
            return false;
        }
        for datagram in contents.chunks(step.max(1)) {
            repair.send(datagram);
        }
        true
    }

    /// Whether frames are more than the beginning of a path that needs none.
    pub fn is_repairing(&self) -> bool {
        let inner = self.lock();
        inner.repair.as_ref().is_some_and(Repair::is_repairing)
    }

    /// Datagrams of DTLS came in bare.
    pub fn handle_bare<'a>(&self, datagrams: impl Iterator<Item = &'a [u8]>) {
        if let Some(repair) = &mut self.lock().repair {
            datagrams.for_each(|datagram| repair.handle_bare(datagram));
        }
    }

    /// Takes a frame that came by `way`; `marked`: a router saw congestion.
    pub fn handle_frame(&self, way: Way, frame: &[u8], marked: bool) {
        let mut inner = self.lock();
        // What comes too early is not acknowledged, so it comes again.
        if !inner.open {
            return;
        }
        if let Some(repair) = &mut inner.repair
            && repair.handle_frame(Instant::now(), frame, marked)
        {
            // Whoever only listens acknowledges, too.
            inner.way.get_or_insert(way);
        }
    }

    /// The next datagram for the crate.
    pub fn poll_datagram(&self) -> Option<Vec<u8>> {
        self.lock().repair.as_mut()?.poll_datagram()
    }

    /// What is to leave now, and where. To be called until nothing comes; what a full socket does
    /// not take is [given back](Self::give_back).
    pub fn poll_batch(&self) -> Option<(Way, Batch)> {
        let mut inner = self.lock();
        let way = inner.way?;
        if let Some(stuck) = inner.stuck.take() {
            return Some((way, stuck));
        }
        let repair = inner.repair.as_mut()?;
        let now = Instant::now();
        if repair.poll_timeout().is_some_and(|at| at <= now) {
            repair.handle_timeout(now);
        }
        let mut frames = Vec::new();
        match repair.poll_transmit(now, &mut frames, MOST_FRAMES, MOST_BYTES) {
            Some(size) => {
                let markable = repair.is_markable();
                Some((
                    way,
                    Batch {
                        frames,
                        size,
                        markable,
                    },
                ))
            }
            None => {
                let due = repair.poll_timeout();
                let sleeps = inner.sleeps_until;
                if due.is_some_and(|due| sleeps.is_none_or(|sleeps| due < sleeps)) {
                    inner.sleeps_until = due;
                    self.sooner.notify_one();
                }
                None
            }
        }
    }

    /// The socket was full.
    pub fn give_back(&self, batch: Batch) {
        let mut inner = self.lock();
        inner.stuck = Some(batch);
        inner.sleeps_until = Some(Instant::now() + FULL_AGAIN);
        self.sooner.notify_one();
    }

    /// The way of what this side sends, once there is one.
    pub fn way(&self) -> Option<Way> {
        self.lock().way
    }

    /// When the timer is to drive the layer next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let mut inner = self.lock();
        let due = match (&inner.stuck, &inner.repair) {
            (Some(_), _) => Some(Instant::now() + FULL_AGAIN),
            (None, Some(repair)) => repair.poll_timeout(),
            (None, None) => None,
        };
        inner.sleeps_until = due.filter(|_| inner.way.is_some());
        inner.sleeps_until
    }

    /// Whether large datagrams were lost again and again: once for each time.
    pub fn poll_suspicion(&self) -> bool {
        let mut inner = self.lock();
        inner.repair.as_mut().is_some_and(Repair::poll_suspicion)
    }

    /// What there is to see; `None` without a layer.
    pub fn stats(&self) -> Option<Stats> {
        self.lock().repair.as_ref().map(Repair::stats)
    }

    /// Whether something has not left yet.
    pub fn is_waiting(&self) -> bool {
        let inner = self.lock();
        inner.repair.as_ref().is_some_and(Repair::is_waiting)
    }

    /// No code that holds this lock can panic half-way through a change worth distrusting.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::link::repair::frame::Role;

    #[test]
    fn what_comes_before_a_path_is_found_comes_again_and_is_acknowledged_the_way_it_came() {
        let [here, there] = [Role::Offerer, Role::Answerer].map(|role| {
            let layer = Layer::default();
            layer.start(Keys::new(role, "one", "one"), 7, 1 << 20, true);
            layer
        });
        let [way, back] = [1, 2].map(|port| Way {
            local: ([127, 0, 0, port], 9).into(),
            remote: ([127, 0, 0, 3 - port], 9).into(),
            relayed: false,
        });
        assert!(here.take(way, &[22; 40], 40));
        let (to, batch) = here.poll_batch().unwrap();
        assert_eq!(to, way);
        there.handle_frame(back, &batch.frames, false);
        assert_eq!((there.poll_datagram(), there.way()), (None, None));
        assert_eq!(there.poll_timeout(), None, "nothing is acknowledged");
        there.open();
        let forged = vec![batch.frames[0]; batch.frames.len()];
        there.handle_frame(way, &forged, false);
        assert_eq!(there.way(), None);
        there.handle_frame(back, &batch.frames, false);
        assert_eq!(there.poll_datagram(), Some(vec![22; 40]));
        assert!(there.way() == Some(back) && there.poll_timeout().is_some());
    }
}
