//! The opening of every talk: the hellos, and the comparison of words where a person wants it.
//!
//! A part of the machines that follow it (transfer, pipe), not a machine of its own: it decides,
//! they transmit. Nothing of the user's (names, sizes, bytes) may be sent before [`Opening::is_done`].

use super::hello::{Hello, Local, Peer, Refusal, Role};
use super::message::{Fault, Message};

/// How far the opening is.
#[derive(Debug)]
pub struct Opening {
    role: Role,
    /// This side's person wants the words compared.
    asked: bool,
    peer: Option<Peer>,
    agreed_here: bool,
    agreed_there: bool,
}

impl Opening {
    /// Starts to open in this role; the message is the first to transmit.
    #[must_use]
    pub fn new(local: Local<'_>, role: Role) -> (Self, Message) {
        let opening = Self {
            role,
            asked: local.verify,
            peer: None,
            agreed_here: false,
            agreed_there: false,
        };
        (opening, Message::Hello(Hello::new(local, role)))
    }

    /// Takes the peer's hello.
    ///
    /// # Errors
    /// The two sides do not fit, or it is not the first.
    pub fn handle_hello(&mut self, hello: Hello) -> Result<&Peer, Refusal> {
        if self.peer.is_some() {
            return Err(Refusal::Fault(Fault::Unexpected {
                t: "hello",
                when: "after \"hello\"",
            }));
        }
        let peer = hello.judge(self.role)?;
        Ok(self.peer.insert(peer))
    }

    /// Takes the peer's word that the words agree there.
    ///
    /// # Errors
    /// Nothing was to be compared, or it said so before.
    pub fn handle_agree(&mut self) -> Result<(), Fault> {
        let when = match &self.peer {
            None => self.moment(),
            Some(_) if !self.compares() => "with no words to compare",
            Some(_) if self.agreed_there => "after \"agree\"",
            Some(_) => {
                self.agreed_there = true;
                return Ok(());
            }
        };
        Err(Fault::Unexpected { t: "agree", when })
    }

    /// The person says that the words agree. Returns the message to transmit, once.
    #[must_use]
    pub fn agree(&mut self) -> Option<Message> {
        let due = self.asks();
        self.agreed_here |= due;
        due.then_some(Message::Agree)
    }

    /// Whether this side's person is to be asked (or is being asked) for the words.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.compares() && !self.agreed_here
    }

    /// The peer, once its hello has come and fits.
    #[must_use]
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Whether what follows may begin.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.peer.is_some() && (!self.compares() || (self.agreed_here && self.agreed_there))
    }

    /// What is being waited for, in words for a [`Fault`].
    #[must_use]
    pub fn moment(&self) -> &'static str {
        match self.peer {
            None => "before \"hello\"",
            Some(_) => "before the words were compared",
        }
    }

    /// Either side may want it; then both do it.
    fn compares(&self) -> bool {
        self.peer
            .as_ref()
            .is_some_and(|peer| self.asked || peer.verify)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(verify: bool) -> Local<'static> {
        Local {
            version: "0.1.0",
            verify,
        }
    }

    fn opened(here: bool, there: bool) -> Opening {
        let (mut opening, _) = Opening::new(local(here), Role::Send);
        let hello = Hello::new(local(there), Role::Receive);
        opening.handle_hello(hello).unwrap();
        opening
    }

    #[test]
    fn without_a_wish_the_hellos_are_all() {
        let mut opening = opened(false, false);
        assert!(opening.is_done() && !opening.asks());
        assert_eq!(opening.agree(), None);
        assert!(opening.handle_agree().is_err());
    }

    #[test]
    fn a_wish_of_either_side_makes_both_compare() {
        for (here, there) in [(true, false), (false, true), (true, true)] {
            let mut opening = opened(here, there);
            assert!(opening.asks() && !opening.is_done());
            assert_eq!(opening.agree(), Some(Message::Agree));
            assert_eq!(opening.agree(), None, "said once");
            assert!(!opening.is_done(), "the other person has not said it yet");
            opening.handle_agree().unwrap();
            assert!(opening.is_done());
            assert!(opening.handle_agree().is_err());
        }
    }

    #[test]
    fn the_peer_may_agree_first() {
        let mut opening = opened(true, false);
        opening.handle_agree().unwrap();
        assert!(!opening.is_done() && opening.asks());
        assert!(opening.agree().is_some());
        assert!(opening.is_done());
    }

    #[test]
    fn nothing_comes_before_the_hello_and_no_second_one_after_it() {
        let (mut opening, first) = Opening::new(local(true), Role::Pipe);
        assert!(matches!(first, Message::Hello(_)));
        assert!(opening.handle_agree().is_err() && !opening.is_done());
        let hello = Hello::new(local(false), Role::Pipe);
        opening.handle_hello(hello.clone()).unwrap();
        assert!(matches!(
            opening.handle_hello(hello),
            Err(Refusal::Fault(_))
        ));
    }
}
