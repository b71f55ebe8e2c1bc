// SPDX-License-Identifier: Apache-2.0

//! The [exchanges](Exchange) of a worker: which one may begin, how many there may be, and which ones are given up.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ptr::NonNull;
use std::rc::Rc;

use super::{Done, is_overtime};
use crate::nginx::ffi;
use crate::nginx::process_state;
use crate::nginx::timer::{Timer, now};

/// Requests of which nobody awaits the answer: so many are on their way at once, the others wait for them.
const MOST_TOLD: usize = 128;

/// Of this share of a worker's connections each may belong to a question, or to what a location does in the background when
/// it has answered one. Each takes another connection to the server that it is passed to, and goes on without its client: half
/// of the connections are left to clients, however slow hooks are.
const SHARE: usize = 4;

/// How long a location may go on in the background when it has answered, in milliseconds. nginx would wait for ever for one
/// that `limit_req` delays.
const LONGEST: u64 = 600_000;

/// How often while there is a time by which the worker is to have left.
const OFTEN: u64 = 200;

/// How long a worker that leaves goes on with what nobody awaits, in milliseconds.
const LAST_CHANCE: u64 = 5000;

/// How long a worker goes on after `worker_shutdown_timeout`, in milliseconds: that ends every client, so that many of them leave
/// at that moment.
const OVERTIME: u64 = 1500;

/// One request on its way.
pub(super) struct Exchange {
    pub(super) detached: NonNull<ffi::ngx_ws_detached_t>,
    pub(super) done: Option<Done>,
    /// Shared with whoever publishes it: nginx sends it on from here, to mirrors also after the answer.
    pub(super) message: Rc<Vec<u8>>,
    pub(super) body: Vec<u8>,
    pub(super) limit: usize,
    pub(super) unwanted: usize,
    pub(super) too_large: bool,
    pub(super) is_notice: bool,
    pub(super) begun: u64,
    /// Its place among those that have been answered.
    pub(super) place: Option<u64>,
}

pub(super) type ExchangeRef = NonNull<Exchange>;

/// An exchange that goes on in the background.
#[derive(Clone, Copy)]
pub(super) struct Answered {
    pub(super) exchange: ExchangeRef,
    pub(super) at: u64,
}

/// The exchanges of a worker. Invariant: each that was started is either running or answered until its request is freed.
pub(super) struct Exchanges {
    pub(super) asked: VecDeque<ExchangeRef>,
    pub(super) notices: VecDeque<ExchangeRef>,
    /// On their way, and not answered.
    pub(super) running: HashSet<ExchangeRef>,
    /// How many of the running exchanges are notices.
    pub(super) told: usize,
    /// Answered, and not over, in the order in which they were answered.
    pub(super) answered: BTreeMap<u64, Answered>,
    pub(super) next_place: u64,
    /// Lets those that wait begin.
    pub(super) turn: Timer,
    /// Keeps a worker that is told to go as long as there is something on its way.
    pub(super) keep: Timer,
    pub(super) kept: bool,
}

pub(super) fn most_questions() -> usize {
    // SAFETY: ngx_cycle is set before workers begin.
    unsafe { (*ffi::ngx_cycle).connection_n / SHARE }
}

impl Exchanges {
    /// The next exchange that may begin.
    pub(super) fn next(&mut self) -> Option<ExchangeRef> {
        let exchange = match self.asked.pop_front() {
            Some(exchange) => exchange,
            None if self.told < MOST_TOLD => {
                let exchange = self.notices.pop_front()?;
                self.told += 1;
                exchange
            }
            None => return None,
        };
        self.running.insert(exchange);
        Some(exchange)
    }

    /// An exchange was answered, or could not begin.
    pub(super) fn finished(&mut self, exchange: ExchangeRef, is_notice: bool) -> Option<u64> {
        if !self.running.remove(&exchange) {
            return None;
        }
        if is_notice {
            self.told -= 1;
            if !self.notices.is_empty() {
                self.turn.post_next();
            }
        }
        let place = self.next_place;
        self.next_place += 1;
        self.answered.insert(place, Answered { exchange, at: now() });
        if self.questions() + self.answered.len() > most_questions() {
            self.turn.post_next();
        }
        Some(place)
    }

    /// The request of an exchange is freed.
    pub(super) fn freed(&mut self, place: Option<u64>) {
        if let Some(place) = place {
            self.answered.remove(&place);
        }
        if self.is_idle() {
            self.keep.disarm();
            self.kept = false;
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.notices.is_empty() && self.running.is_empty() && self.answered.is_empty()
    }

    /// How many exchanges there are whose answers are awaited.
    pub(super) fn questions(&self) -> usize {
        self.asked.len() + self.running.len() - self.told
    }

    pub(super) fn has_notices(&self) -> bool {
        self.told > 0 || !self.notices.is_empty()
    }

    /// What there is no time or no room for any more.
    pub(super) fn surplus(&mut self, now: u64) -> Surplus {
        let leaving = process_state::is_leaving();
        let overtime = is_overtime(now);
        let no_more_notices = process_state::clients_end().is_some_and(|by| now >= by + OVERTIME);
        let is_late = |exchange: &ExchangeRef| {
            // SAFETY: exchanges of the list are alive: who frees one has taken it off.
            let exchange = unsafe { exchange.as_ref() };
            if exchange.is_notice {
                leaving && (no_more_notices || now >= exchange.begun + LAST_CHANCE)
            } else {
                overtime
            }
        };
        let is_long = |answered: &Answered| overtime || now >= answered.at + LONGEST;
        let room = most_questions().saturating_sub(self.questions());
        let beyond = self.answered.len().saturating_sub(room);
        let background =
            (0..).zip(&self.answered).filter(|(count, (_, answered))| *count < beyond || is_long(answered));
        let mut waiting = Vec::new();
        self.notices.retain(|exchange| {
            let is_late = is_late(exchange);
            if is_late {
                waiting.push(*exchange);
            }
            !is_late
        });
        Surplus {
            running: self.running.iter().copied().filter(is_late).collect(),
            answered: background.map(|(_, (&place, _))| place).collect(),
            waiting,
        }
    }

    /// The worker is not to leave before somebody has looked again.
    pub(super) fn stay(&mut self, time: u64) {
        if !self.kept {
            self.kept = true;
            self.keep.arm(if process_state::clients_end().is_some() { time.min(OFTEN) } else { time });
        }
    }
}

/// Exchanges that are given up.
pub(super) struct Surplus {
    /// Exchanges that are on their way.
    pub(super) running: Vec<ExchangeRef>,
    /// In the background, by their places.
    pub(super) answered: Vec<u64>,
    /// Notices that were not started.
    pub(super) waiting: Vec<ExchangeRef>,
}
