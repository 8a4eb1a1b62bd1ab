//! Input that somebody made to do harm, through the public API: one module for each kind.

mod names;
