// SPDX-License-Identifier: Apache-2.0

//! Lists of channels, which are made a part in each turn of the event loop: whatever the size of the zone, other clients are not kept
//! waiting for one.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::hub::{self, Hub};
use crate::channel::backend::{Answer, Failure, Listing, Outcome, Promise, later};
use crate::channel::memory::Corrupt;
use crate::channel::store::{GroupKey, Listed, Page};
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::timer::Timer;

/// Milliseconds that a worker stays at least for a list that is being made. What is posted does not keep one that was told to go.
const STAY: u64 = 1000;

/// How often the lock of the zone is taken for lists in one turn of the event loop.
const STEPS_IN_TURN: usize = 64;

/// How often it is taken for one list. The page ends there, and the client may ask for the next one.
const STEPS: usize = 4096;

/// A list that is made.
struct Query {
    space: u64,
    name: Box<[u8]>,
    prefix: Box<[u8]>,
    /// As many as the client wants.
    most: usize,
    channels: Vec<Listed>,
    /// Where it goes on.
    next: Option<Page>,
    steps: usize,
}

type Made = Promise<Listing, Corrupt>;

/// Invariant: the turn is posted and its timer armed as long as there are queries.
struct Waiting {
    queries: VecDeque<(Query, Made)>,
    turn: Timer,
}

impl Waiting {
    fn await_turn(&mut self) {
        if self.queries.is_empty() {
            self.turn.cancel();
        } else {
            self.turn.post_next();
            self.turn.arm(STAY);
        }
    }
}

thread_local! {
    static WAITING: RefCell<Option<Waiting>> = const { RefCell::new(None) };
}

/// Lists channels of a group: see [`Groups::list`](crate::channel::store::Groups::list). Most zones are looked through at once.
pub fn list(key: GroupKey<'_>, prefix: &[u8], page: Page, most: usize) -> Answer<Listing, Corrupt> {
    let GroupKey { space, name } = key;
    let (name, prefix) = (name.into(), prefix.into());
    let mut query = Query { space, name, prefix, most, channels: Vec::new(), next: Some(page), steps: STEPS };
    match go_on(&mut query) {
        Ok(true) => Answer::Now(Ok(query.listing())),
        Ok(false) => {
            let (promise, pending) = later();
            WAITING.with_borrow_mut(|waiting| {
                let waiting = waiting
                    .get_or_insert_with(|| Waiting { queries: VecDeque::new(), turn: Timer::of_worker(on_turn) });
                waiting.queries.push_back((query, promise));
                waiting.await_turn();
            });
            Answer::Later(pending)
        }
        Err(failure) => Answer::Now(Err(failure)),
    }
}

/// The worker goes: nobody waits any more.
pub fn end() {
    WAITING.take();
}

/// Looks at more of the zone. Whether the list is made.
fn go_on(query: &mut Query) -> Outcome<bool, Corrupt> {
    match hub::with(|hub| query.go_on(hub)) {
        Some(made) => made.map_err(Failure::Own),
        None => Err(Failure::Unavailable),
    }
}

impl Query {
    fn go_on(&mut self, hub: &Hub) -> Result<bool, Corrupt> {
        let key = GroupKey { space: self.space, name: &self.name };
        for _ in 0..STEPS_IN_TURN {
            let Some(page) = self.next.filter(|_| self.steps > 0) else { return Ok(true) };
            self.steps -= 1;
            let mut step =
                || hub.store.groups().list(key, &self.prefix, page, self.most, hub::time(), &mut self.channels);
            // A damaged zone is repaired by the second attempt.
            let next = step().or_else(|Corrupt| step())?;
            if next == Some(page) {
                // There is one more than so many.
                return Ok(true);
            }
            self.next = next;
        }
        Ok(self.next.is_none() || self.steps == 0)
    }

    fn listing(self) -> Listing {
        Listing { channels: self.channels, next: self.next }
    }
}

unsafe extern "C" fn on_turn(_: *mut ffi::ngx_event_t) {
    guard((), || {
        let Some((mut query, promise)) = WAITING.with_borrow_mut(|waiting| waiting.as_mut()?.queries.pop_front())
        else {
            return;
        };
        let made = go_on(&mut query);
        let made = match made {
            Ok(true) => Some((promise, Ok(query.listing()))),
            Ok(false) => {
                WAITING.with_borrow_mut(|waiting| {
                    if let Some(waiting) = waiting {
                        waiting.queries.push_back((query, promise));
                    }
                });
                None
            }
            Err(failure) => Some((promise, Err(failure))),
        };
        WAITING.with_borrow_mut(|waiting| {
            if let Some(waiting) = waiting {
                waiting.await_turn();
            }
        });
        if let Some((promise, outcome)) = made {
            promise.answer(outcome);
        }
    });
}
