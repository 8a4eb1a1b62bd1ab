//! Result values become text and JSON here. Pure: nothing in this module reads a clock, an
//! environment or a terminal, and nothing prints.

pub mod addr;
pub mod bench;
pub mod human;
pub mod model;
pub mod nat;
pub mod qr;
pub mod sanitize;
