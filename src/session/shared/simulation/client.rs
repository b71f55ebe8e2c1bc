// SPDX-License-Identifier: Apache-2.0

//! The clients of simulated programs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::worker::TestHost;
use crate::channel::store::{Handle, Input, InputKind, Token};
use crate::exec::terminal::Size;
use crate::session::shared::{ProgramMembership, Pushed, State};
use crate::ws::frame::MessageKind;

/// A client of a shared program.
pub struct Client {
    pub number: usize,
    pub channel: Handle,
    pub token: Token,
    pub membership: RefCell<Option<ProgramMembership<TestHost>>>,
    /// The size that it has asked for last.
    pub size: Cell<Option<Size>>,
    /// What it has said and the program was not given yet.
    held: RefCell<VecDeque<u64>>,
    /// How its run has ended; it is still there to read what is left.
    pub end: RefCell<Option<State>>,
    /// Whether the client goes as soon as its run has ended.
    goes_at_once: bool,
}

impl Client {
    pub fn new(
        number: usize,
        channel: Handle,
        token: Token,
        membership: ProgramMembership<TestHost>,
        goes_at_once: bool,
    ) -> Self {
        Client {
            number,
            channel,
            token,
            membership: RefCell::new(Some(membership)),
            size: Cell::new(None),
            held: RefCell::default(),
            end: RefCell::default(),
            goes_at_once,
        }
    }

    /// How far the program is, as long as the client has not gone.
    pub fn state(&self) -> Option<State> {
        self.membership.borrow().as_ref().map(ProgramMembership::state)
    }

    /// The client says something.
    pub fn say(&self, number: u64) {
        self.held.borrow_mut().push_back(number);
        self.look();
    }

    /// The client asks for a size of the terminal, unless its run has ended.
    pub fn resize(&self, size: Size) {
        if let Some(membership) = &*self.membership.borrow()
            && self.end.borrow().is_none()
        {
            self.size.set(Some(size));
            membership.resize(size);
        }
    }

    /// Whether the program has been given all that it has said.
    pub fn is_through(&self) -> bool {
        self.held.borrow().is_empty()
    }

    /// What the client does whenever it is woken.
    pub fn look(&self) {
        let state = self.state();
        match state {
            None => return,
            Some(State::Starting | State::Running(_)) => {}
            Some(State::Refused(_) | State::Ended(_)) => {
                *self.end.borrow_mut() = state;
                self.held.borrow_mut().clear();
                if self.goes_at_once {
                    self.go();
                }
                return;
            }
        }
        loop {
            let Some(number) = self.held.borrow().front().copied() else { break };
            let message = Input { kind: InputKind::Message(MessageKind::Text), data: number.to_le_bytes().to_vec() };
            let pushed = self.membership.borrow().as_ref().map(|membership| membership.push(&message));
            match pushed {
                Some(Pushed::Taken) => drop(self.held.borrow_mut().pop_front()),
                Some(Pushed::Full) => break,
                Some(Pushed::TooLarge) | None => panic!("a small message of a client that is there"),
            }
        }
    }

    /// The client leaves the program.
    pub fn go(&self) {
        let membership = self.membership.take();
        drop(membership);
    }
}
