//! The program as a process: stdout, stderr and exit status together, in an environment that
//! holds nothing from outside.

mod endings;
mod env;
mod help;
mod mistakes;
mod places;
mod process;
mod terminal;
mod token;
mod transfer;
mod usage;
