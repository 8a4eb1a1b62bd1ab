//! STUN (RFC 8489) as pure machines: no sockets, no clock, no entropy of their own.

pub mod reflexive;
pub mod responder;

/// RFC 8489 §5.
pub const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
/// Message types (RFC 8489 §5).
pub const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
/// Keeps mappings alive, wants no answer (RFC 8445 §11).
pub const BINDING_INDICATION: [u8; 2] = [0x00, 0x11];

/// A whole STUN message without attributes.
#[must_use]
pub fn bare_message(kind: [u8; 2], transaction: &[u8; 12]) -> [u8; 20] {
    let mut message = [0; 20];
    message[..2].copy_from_slice(&kind);
    message[4..8].copy_from_slice(&MAGIC_COOKIE);
    message[8..].copy_from_slice(transaction);
    message
}
