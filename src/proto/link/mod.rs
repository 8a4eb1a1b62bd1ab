//! A thin layer of our own under DTLS, between two knotholes.

pub mod flight;
pub mod size;
