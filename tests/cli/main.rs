//! The program as a process: stdout, stderr and exit status together, in an environment that
//! holds nothing from outside.

mod env;
mod help;
mod terminal;
mod token;
mod usage;
