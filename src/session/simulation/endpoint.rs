// SPDX-License-Identifier: Apache-2.0

//! The other side of a simulated session, which checks in which order it is called.

use super::*;
use crate::session::endpoint::{Ending, Endpoint, Input, Outlet, Produced, Started};
use crate::session::program::{LeftProgram, ProgramEnd};
use crate::ws::close::CloseCode;
use crate::ws::connection::Data;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// How far the endpoint is, by the calls that it has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The endpoint may be asked whether it has started.
    Starting,
    /// The endpoint could not start: nothing but the end follows.
    Refused,
    /// Messages go both ways.
    Open,
    /// The endpoint has said all, and still takes what the client says.
    Listening,
    /// The endpoint has said all.
    Ended,
    /// The client is gone: nothing follows.
    Gone,
}

/// What the endpoint says next.
pub(super) enum Say {
    Message(Message),
    /// A message in two pieces.
    Pieces(Message),
    /// A message that is framed where it was read.
    Read(Message),
}

/// The endpoint, and the other side behind it.
pub struct Other {
    pub(super) phase: Phase,
    pub(super) starts: Option<Started>,
    pub(super) is_in_turn: bool,
    /// Octets above which nothing more is accepted, those that wait, and how many the other side takes.
    pub(super) capacity: usize,
    pub(super) waiting: usize,
    pub(super) takes: usize,
    pub(super) progress: u64,
    pub(super) has_taken: bool,
    /// Whether a delivery is allowed: `accepts` was the last answer.
    pub(super) accepted: Cell<bool>,
    pub(super) refuses: bool,
    pub(super) has_refused: bool,
    pub(super) unfinished: Option<Message>,
    /// Whole messages of the client.
    pub inbox: Vec<Message>,
    pub(super) outbox: VecDeque<Say>,
    /// Whole messages for the client that were handed out.
    pub said: Vec<Message>,
    pub(super) end: Option<Produced>,
    pub(super) leaves: bool,
    /// Its events.
    pub(super) event: bool,
    pub(super) program: Option<LeftProgram>,
    pub(super) leaves_program: bool,
}

/// The endpoint as the session has it: it checks the order of the calls that it gets.
pub(super) struct TestEndpoint(pub(super) Rc<RefCell<Other>>);

pub(super) fn weight(data: &Data<'_>) -> usize {
    data.payload.len() + 1
}

impl Endpoint for TestEndpoint {
    fn start(&mut self) -> Started {
        let mut other = self.0.borrow_mut();
        assert_eq!(other.phase, Phase::Starting);
        let started = other.starts.unwrap_or(Started::NotYet);
        match started {
            Started::NotYet => {}
            Started::Yes => other.phase = Phase::Open,
            Started::No(_) => other.phase = Phase::Refused,
        }
        started
    }

    fn accepts(&self) -> bool {
        let other = self.0.borrow();
        assert!(matches!(other.phase, Phase::Open | Phase::Listening));
        let accepts = other.waiting < other.capacity;
        other.accepted.set(accepts);
        accepts
    }

    fn deliver(&mut self, data: &Data<'_>) -> Result<(), Ending> {
        let mut other = self.0.borrow_mut();
        assert!(matches!(other.phase, Phase::Open | Phase::Listening | Phase::Ended), "{:?}", other.phase);
        assert!(!other.has_refused, "a message after one that was refused");
        assert_eq!(data.first, other.unfinished.is_none());
        assert!(data.last || !data.payload.is_empty());
        if std::mem::take(&mut other.refuses) {
            other.has_refused = true;
            return Err(Ending { code: CloseCode::POLICY, reason: "refused".to_owned() });
        }
        other.waiting += weight(data);
        let message = other.unfinished.get_or_insert((data.kind, Vec::new()));
        assert_eq!(message.0, data.kind);
        message.1.extend_from_slice(data.payload);
        if data.last {
            let message = other.unfinished.take();
            other.inbox.extend(message);
        }
        Ok(())
    }

    fn flush(&mut self) -> bool {
        let mut other = self.0.borrow_mut();
        assert_ne!(other.phase, Phase::Gone);
        let count = other.takes.min(other.waiting);
        other.takes -= count;
        other.waiting -= count;
        other.progress += count as u64;
        other.has_taken |= count > 0;
        count > 0
    }

    fn is_in_turn(&self) -> bool {
        self.0.borrow().is_in_turn
    }

    fn waits(&self) -> bool {
        self.0.borrow().waiting > 0
    }

    fn has_taken(&mut self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().has_taken)
    }

    fn leave(&mut self) {
        let mut other = self.0.borrow_mut();
        assert_eq!(other.phase, Phase::Open);
        other.leaves = true;
    }

    fn produce(&mut self, outlet: &mut Outlet<'_>) -> Produced {
        let mut other = self.0.borrow_mut();
        assert_eq!(other.phase, Phase::Open, "nothing is to be made after the end");
        let mut some = false;
        while outlet.has_room()
            && outlet.allowance() > 0
            && let Some(say) = other.outbox.pop_front()
        {
            some = true;
            let sent = match &say {
                Say::Message((kind, octets)) => outlet.message(*kind, octets),
                Say::Pieces((kind, octets)) => {
                    let (first, second) = octets.split_at(octets.len() / 2);
                    outlet.piece(*kind, first, false).and_then(|()| outlet.piece(*kind, second, true))
                }
                Say::Read((kind, octets)) => {
                    outlet.message_from(*kind, octets.len() / 2, |buffer| buffer.extend_from_slice(octets))
                }
            };
            let (Say::Message(message) | Say::Pieces(message) | Say::Read(message)) = say;
            outlet.has_read(message.1.len());
            assert!(sent.is_ok(), "an open session takes messages");
            other.said.push(message);
        }
        if !other.outbox.is_empty() {
            assert!(!outlet.has_room() || outlet.allowance() == 0);
            return if some { Produced::Some } else { Produced::Nothing };
        }
        match &other.end {
            Some(Produced::Leaving) if other.leaves => {
                other.phase = Phase::Ended;
                Produced::Ended(normal())
            }
            Some(Produced::Leaving) => Produced::Leaving,
            Some(Produced::Silent(ending)) => {
                let ending = ending.clone();
                other.phase = Phase::Listening;
                Produced::Silent(ending)
            }
            Some(Produced::Ended(ending)) => {
                let ending = ending.clone();
                other.phase = Phase::Ended;
                Produced::Ended(ending)
            }
            Some(Produced::Nothing | Produced::Some) | None if some => Produced::Some,
            Some(Produced::Nothing | Produced::Some) | None => Produced::Nothing,
        }
    }

    fn client_gone(&mut self, _: Input) -> Option<LeftProgram> {
        let mut other = self.0.borrow_mut();
        assert_ne!(other.phase, Phase::Gone, "the client goes once");
        other.phase = Phase::Gone;
        if !other.leaves_program {
            return None;
        }
        let end = Rc::new(ProgramEnd::default());
        let is_awaited = Rc::new(Cell::new(true));
        other.program = Some(LeftProgram { end: Rc::clone(&end), patience: 300, is_awaited: Rc::clone(&is_awaited) });
        Some(LeftProgram { end, patience: 300, is_awaited })
    }

    fn progress(&self) -> u64 {
        self.0.borrow().progress
    }
}

impl Drop for TestEndpoint {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.0.borrow().phase, Phase::Gone, "an endpoint is told that its client is gone");
        }
    }
}
