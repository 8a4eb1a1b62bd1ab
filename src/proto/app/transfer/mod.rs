//! The transfer of files: one [`Sender`], one [`Receiver`].
//!
//! The machines move no bytes and touch no files. The sender says which file to read next and the
//! I/O layer puts those bytes on the channel itself; the receiver says where arriving bytes belong.
//! Both follow the drain rule of [`proto::app`](super). Neither has a clock: a peer that says
//! nothing is the business of the link, which ends in `handle_closed`.

pub mod receiver;
pub mod sender;

pub use receiver::Receiver;
pub use sender::Sender;
