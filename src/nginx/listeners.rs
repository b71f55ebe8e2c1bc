// SPDX-License-Identifier: Apache-2.0

//! The clients of this worker: sessions, requests that wait for messages, and those that a CGI program answers.
//!
//! The hub wakes them, a worker that is told to go drains them, and one that goes at once ends them. None of that needs to know
//! which of them a client is: it begins with a [`Head`] that says how it is reached.

use std::cell::{Cell, RefCell};
use std::iter;
use std::ptr::{self, NonNull};

use super::channel::hub::Hub;
use super::ffi;
use super::guard::guard;
use super::heap;
use super::request::Request;
use super::timer::{Timer, now};
use crate::channel::fanout::SubscriberId;
use crate::ws::timing::{drain_at, late_drain_at};

/// How the clients of one kind are reached. Each of these may end the client, except [`serve`](Self::serve).
pub struct Calls {
    /// Lets it look at what is there.
    pub wake: fn(Listener),
    /// Sends it what is there for its subscription, without waking it. Whether that was all, and it needs nothing more.
    pub serve: fn(Listener, SubscriberId, &mut Hub) -> bool,
    /// Over how many milliseconds its location spreads the ends of its clients; 0 if it does not.
    pub drain_time: fn(Listener) -> u64,
    /// Ends it at this time of nginx's clock.
    pub drain: fn(Listener, u64),
    /// Ends it now: its worker exits.
    pub terminate: fn(Listener),
}

/// The beginning of a client in memory.
#[repr(C)]
pub struct Head {
    calls: &'static Calls,
}

impl Head {
    /// Of a client that is reached in this way.
    pub const fn new(calls: &'static Calls) -> Self {
        Head { calls }
    }
}

/// A client, whatever it is. It is forgotten by all who know it when it ends.
#[derive(Debug, Clone, Copy)]
pub struct Listener(NonNull<Head>);

impl Listener {
    /// A client that begins with a head. Its type says so by `#[repr(C)]`.
    pub fn new(head: NonNull<Head>) -> Self {
        Listener(head)
    }

    /// The client, for the calls of its own kind.
    pub fn client<T>(self) -> NonNull<T> {
        self.0.cast()
    }

    /// A number for it.
    pub fn number(self) -> usize {
        self.0.as_ptr().expose_provenance()
    }

    /// The listener of a number that [`number`](Self::number) gave, while it is there.
    pub fn from_number(number: usize) -> Option<Self> {
        NonNull::new(ptr::with_exposed_provenance_mut(number)).map(Listener)
    }

    fn calls(self) -> &'static Calls {
        // SAFETY: whoever has a listener has been told to forget it before its memory is freed; its head is never written to.
        unsafe { (*self.0.as_ptr()).calls }
    }

    /// Over how many milliseconds its location spreads the ends of its clients: see [`Calls::drain_time`].
    fn drain_time(self) -> u64 {
        (self.calls().drain_time)(self)
    }

    /// Lets it look at what is there.
    pub fn wake(self) {
        (self.calls().wake)(self);
    }

    /// Sends it what is there for its subscription: see [`Calls::serve`].
    pub fn serve(self, id: SubscriberId, hub: &mut Hub) -> bool {
        (self.calls().serve)(self, id, hub)
    }
}

#[derive(Default)]
struct Listeners {
    places: Vec<Option<Listener>>,
    free: Vec<usize>,
}

thread_local! {
    static LISTENERS: RefCell<Listeners> = RefCell::default();
    /// When the worker was told to go, and how many clients have begun since.
    static LEAVING: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
    static DRAINING: RefCell<Option<Draining>> = const { RefCell::new(None) };
}

/// Puts a client on the list; returns its place.
pub fn add(client: Listener) -> usize {
    heap::client_came();
    LISTENERS.with_borrow_mut(|listeners| match listeners.free.pop() {
        Some(place) => {
            listeners.places[place] = Some(client);
            place
        }
        None => {
            listeners.places.push(Some(client));
            listeners.places.len() - 1
        }
    })
}

/// Takes a client off the list.
pub fn remove(place: usize) {
    LISTENERS.with_borrow_mut(|listeners| {
        if let Some(occupied) = listeners.places.get_mut(place)
            && occupied.take().is_some()
        {
            listeners.free.push(place);
            heap::client_gone();
        }
    });
}

/// The client at this place of the list, which may have as many as [`places`].
fn client(place: usize) -> Option<Listener> {
    LISTENERS.with_borrow(|listeners| listeners.places.get(place).copied().flatten())
}

fn places() -> usize {
    LISTENERS.with_borrow(|listeners| listeners.places.len())
}

/// When a client that begins now is to be drained: the others have their times already. `None` where nobody is.
pub fn late_drain(request: Request<'_>) -> Option<u64> {
    let (began, number) = LEAVING.get()?;
    let time = request.settings().drain();
    if time == 0 {
        return None;
    }
    LEAVING.set(Some((began, number + 1)));
    Some(late_drain_at(now(), began.saturating_add(time), number))
}

/// Clients that are given their times in one turn of the event loop.
const TURN: usize = 256;

/// Clients that are still to be given the times of their ends.
struct Draining {
    began: u64,
    /// Their places, and over how many milliseconds the ends of such clients are spread.
    places: Vec<(usize, u64)>,
    next: usize,
    turn: Timer,
}

impl Draining {
    /// The next one of them, and when it ends. It may have gone, and another one may have its place.
    fn next(&mut self) -> Option<(usize, u64)> {
        let (place, time) = *self.places.get(self.next)?;
        let at = drain_at(self.began, time, self.next as u64, self.places.len() as u64);
        self.next += 1;
        Some((place, at))
    }
}

/// The worker was told to go: spreads the ends of all clients over the time that their locations give them.
pub fn drain() {
    let began = now();
    LEAVING.set(Some((began, 0)));
    let times = (0..places()).map(|place| (place, client(place).map_or(0, Listener::drain_time)));
    let draining = times.filter(|(_, time)| *time != 0).collect();
    DRAINING.set(Some(Draining { began, places: draining, next: 0, turn: Timer::of_worker(on_drain_turn) }));
    set_drain_times();
}

/// Gives some clients their times, and the others in the next turn.
fn set_drain_times() {
    let next = || DRAINING.with_borrow_mut(|draining| draining.as_mut().and_then(Draining::next));
    for (place, at) in iter::from_fn(next).take(TURN) {
        // One that has come meanwhile may be of a location that lets its clients stay.
        if let Some(client) = client(place).filter(|client| client.drain_time() != 0) {
            (client.calls().drain)(client, at);
        }
    }
    DRAINING.with_borrow_mut(|draining| match draining {
        Some(some) if some.next < some.places.len() => some.turn.post_next(),
        _ => *draining = None,
    });
}

unsafe extern "C" fn on_drain_turn(_: *mut ffi::ngx_event_t) {
    guard((), set_drain_times);
}

/// How often the list is gone through when the worker leaves. A request whose client has ended may become another one, by
/// a `post_action` or an error page, but not more often than nginx allows redirects.
const ROUNDS: usize = 12;

/// The worker leaves now: whoever is still connected is told.
pub fn terminate() {
    DRAINING.set(None);
    for _ in 0..ROUNDS {
        let mut some = false;
        for place in 0..places() {
            // Looked at one by one: the end of one may be the end of another.
            let Some(client) = client(place) else { continue };
            some = true;
            (client.calls().terminate)(client);
        }
        if !some {
            break;
        }
    }
}
