//! The protocols in a simulated world: two machines, an in-memory link, a disk, no clock.
//!
//! `document` holds docs/protocol.md to the truth, `crash` cuts the link at every message boundary, `mishap` lets disks, files and people fail, and
//! `liar` puts a peer that breaks its word in front of each machine. The invariants that hold in all
//! of them are in [`world::World::check`], written from docs/protocol.md, not from the machines.
//! `pipe` does all of this for two pipe machines, with readers in place of the disk, and `bench` for
//! two that measure a road.
//!
//! `road` is a path under a virtual clock, `neighbours` are the TCP flows on it, and `repair` is what
//! the repair layer makes of both; `lane` holds the path itself to what is asked of it.

mod bench;
mod crash;
#[path = "../shared/dice.rs"]
mod dice;
mod document;
mod internet;
mod lane;
mod liar;
mod mishap;
mod nat;
mod neighbours;
mod pipe;
mod repair;
mod road;
#[path = "../shared/stun.rs"]
mod stun;
mod world;
