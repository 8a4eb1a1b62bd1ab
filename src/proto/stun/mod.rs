//! STUN (RFC 8489) as pure machines: no sockets, no clock, no entropy of their own.

pub mod reflexive;
pub mod responder;
