//! The exit codes: one table, for the program, its tests, the README and the man pages.

use std::process::ExitCode;

/// How a run ended, as a script sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// What was asked for is done.
    Done = 0,
    /// It ran, and the answer is no: the other side declined, an expectation failed.
    No = 1,
    /// The command line or a token cannot be used as given.
    Usage = 2,
    /// It could not be completed: no server, no path to the peer, lost, timed out, disk.
    Incomplete = 3,
    /// Data arrived and failed verification, or the words of the two screens differ.
    Unverified = 4,
    /// Stopped by Ctrl-C (128 + SIGINT).
    Interrupted = 130,
    /// Stopped by SIGTERM (128 + SIGTERM).
    Terminated = 143,
}

/// The table as README and man pages quote it.
pub const TABLE: &str = "  0    done
  1    the answer is no: the other side declined, or an expectation failed
  2    the command line or a token cannot be used as given
  3    could not complete: no server, no path to the peer, lost, timed out, disk
  4    the data, or the other side, failed verification
  130  stopped by Ctrl-C
  143  stopped by SIGTERM
";

impl Exit {
    /// Every code, in the order of the table.
    pub const ALL: [Self; 7] = [
        Self::Done,
        Self::No,
        Self::Usage,
        Self::Incomplete,
        Self::Unverified,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// Returns the number that the process exits with.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Merges the results of two parts of one run: the worse one wins, 4 > 3 > 1 > 0.
    ///
    /// The other three end a run whatever its parts had to say, so they outrank these.
    #[must_use]
    pub const fn worst(self, other: Self) -> Self {
        if other.rank() > self.rank() {
            other
        } else {
            self
        }
    }

    const fn rank(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::Incomplete => 2,
            Self::Unverified => 3,
            Self::Usage => 4,
            Self::Interrupted => 5,
            Self::Terminated => 6,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worst_wins_in_either_order() {
        use Exit::{Done, Incomplete, No, Unverified};
        let ladder = [Done, No, Incomplete, Unverified];
        for (low, a) in ladder.iter().enumerate() {
            for b in &ladder[low..] {
                assert_eq!(a.worst(*b), *b);
                assert_eq!(b.worst(*a), *b);
            }
        }
        assert_eq!(
            [No, Unverified, Incomplete, Done]
                .into_iter()
                .fold(Done, Exit::worst),
            Unverified
        );
    }

    #[test]
    fn what_ends_the_whole_run_outranks_its_parts() {
        for end in [Exit::Usage, Exit::Interrupted, Exit::Terminated] {
            assert_eq!(Exit::Unverified.worst(end), end);
            assert_eq!(end.worst(Exit::Unverified), end);
        }
    }

    #[test]
    fn the_table_lists_every_code_once_in_order() {
        let listed: Vec<u8> = TABLE
            .lines()
            .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(listed, Exit::ALL.map(Exit::code));
    }

    #[test]
    fn the_table_fits_a_narrow_screen() {
        assert!(
            TABLE
                .lines()
                .all(|line| line.len() <= 80 && line.starts_with("  "))
        );
    }
}
