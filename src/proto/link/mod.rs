//! A thin layer of our own under DTLS, between two knotholes.

pub mod flight;
pub mod repair;
pub mod size;

/// What is at the other end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerKind {
    /// Another knothole: it understands the frames of this layer.
    Knothole,
    /// Any other WebRTC peer: it gets nothing that is not in the RFCs.
    Plain,
}
