//! Why a run failed: a stable kind, the exit code, what happened, what caused it, what to try.
//!
//! There is no blanket `From<anyhow::Error>`: whoever turns an error into a failure says which
//! exit code it deserves and which operation failed.

use std::fmt;

use super::signals::Cause;
use crate::exit::Exit;
use crate::report::model::Event;

/// A failed run, ready to be told to a person or a script.
#[derive(Debug)]
pub struct Failure {
    /// A stable word for scripts, such as `usage` or `no-path`.
    pub kind: &'static str,
    /// The exit code.
    pub exit: Exit,
    /// What happened: a lower-case fragment, values last.
    pub message: String,
    /// What caused it, if something did.
    pub cause: Option<anyhow::Error>,
    /// What to try next.
    pub hint: Option<String>,
}

impl Failure {
    /// The command line or a token cannot be used as given: exit 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new("usage", Exit::Usage, message)
    }

    /// It could not be completed: exit 3.
    pub fn incomplete(message: impl Into<String>) -> Self {
        Self::new("incomplete", Exit::Incomplete, message)
    }

    /// The answer was no: exit 1.
    pub fn declined(message: impl Into<String>) -> Self {
        Self::new("declined", Exit::No, message)
    }

    /// Data failed verification: exit 4.
    pub fn unverified(message: impl Into<String>) -> Self {
        Self::new("unverified", Exit::Unverified, message)
    }

    /// Someone, or a closed stdout, stopped the run.
    #[must_use]
    pub fn interrupted(cause: Cause) -> Self {
        let (kind, message) = match cause {
            Cause::Interrupt => ("interrupted", "stopped by Ctrl-C"),
            Cause::Terminate => ("terminated", "stopped by SIGTERM"),
            Cause::StdoutClosed => (CLOSED, "standard output was closed"),
        };
        Self::new(kind, cause.exit(), message)
    }

    fn new(kind: &'static str, exit: Exit, message: impl Into<String>) -> Self {
        Self {
            kind,
            exit,
            message: message.into(),
            cause: None,
            hint: None,
        }
    }

    /// Names the failure more precisely for scripts.
    #[must_use]
    pub fn kind(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }

    /// Adds what caused it; the error's own chain comes along.
    #[must_use]
    pub fn because(mut self, cause: impl Into<anyhow::Error>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds what to try next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether nothing is to be said: nobody reads our output any more, and that is fine.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.kind == CLOSED
    }

    /// Returns the causes, the nearest first; one that only repeats what was said is left out.
    pub fn causes(&self) -> impl Iterator<Item = String> {
        let mut said = self.message.clone();
        self.cause
            .iter()
            .flat_map(anyhow::Error::chain)
            .map(ToString::to_string)
            .filter(move |cause| {
                let new = !cause.is_empty() && !said.contains(cause.as_str());
                said.clone_from(cause);
                new
            })
    }

    /// Returns what happened and what caused it, for scripts.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        let message = std::iter::once(self.message.clone());
        message.chain(self.causes()).collect::<Vec<_>>().join(": ")
    }

    /// Returns the event that `--json` prints.
    #[must_use]
    pub fn event(&self) -> Event {
        Event::Error {
            kind: self.kind.to_owned(),
            message: self.in_one_line(),
            hint: self.hint.clone(),
        }
    }
}

const CLOSED: &str = "stdout-closed";

impl fmt::Display for Failure {
    /// Writes what a person reads, without colours.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        for cause in self.causes() {
            write!(f, "\n  cause: {cause}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_full() -> Failure {
        let io = anyhow::anyhow!("no space left on device").context("write to /tmp/x");
        Failure::incomplete("cannot save 'x'")
            .kind("disk")
            .because(io)
            .hint("free some space")
    }

    #[test]
    fn a_person_reads_what_why_and_what_next() {
        assert_eq!(
            disk_full().to_string(),
            "error: cannot save 'x'\n  cause: write to /tmp/x\n  cause: no space left on device\nhint: free some space"
        );
        assert_eq!(Failure::declined("no").to_string(), "error: no");
    }

    #[test]
    fn a_script_reads_the_same_in_one_event() {
        let Event::Error {
            kind,
            message,
            hint,
        } = disk_full().event()
        else {
            panic!()
        };
        assert_eq!(kind, "disk");
        assert_eq!(
            message,
            "cannot save 'x': write to /tmp/x: no space left on device"
        );
        assert_eq!(hint.as_deref(), Some("free some space"));
    }

    #[test]
    fn a_cause_that_was_said_already_is_not_said_again() {
        let failure = Failure::incomplete("cannot read x: no such file")
            .because(anyhow::anyhow!("no such file"));
        assert_eq!(failure.causes().count(), 0);
    }

    #[test]
    fn each_constructor_has_its_exit_code() {
        let codes = [
            Failure::usage("").exit,
            Failure::incomplete("").exit,
            Failure::declined("").exit,
            Failure::unverified("").exit,
            Failure::interrupted(Cause::Interrupt).exit,
            Failure::interrupted(Cause::Terminate).exit,
            Failure::interrupted(Cause::StdoutClosed).exit,
        ];
        assert_eq!(codes.map(Exit::code), [2, 3, 1, 4, 130, 143, 0]);
    }
}
