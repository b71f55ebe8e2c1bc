// SPDX-License-Identifier: Apache-2.0

//! What one worker has of the channels: its slot in the zone, its subscribers, and the turns in which news reach them.
//!
//! The hub is borrowed for short steps only. A subscriber is woken while it is not borrowed: that may end the subscriber,
//! which comes back here. It is borrowed while messages are sent to a session directly, which only writes to the session's
//! socket and queue and never ends it.

mod operations;
mod turns;

use std::cell::RefCell;
use std::rc::Rc;

pub use self::turns::retry;
use self::turns::{on_held, on_tick, on_turn, on_wakeup};
use super::wakeups::Wakeups;
use super::zone::{ChannelZone, ZoneLock};
use crate::channel::fanout::{Batch, FanOut, Limits, Next, SubscribeOptions, SubscriberId};
use crate::channel::process;
use crate::channel::store::{Budget, Key, Now, ReadError, Slot, Store, SubscribeError, Wake};
use crate::channel::wire::WireForm;
use crate::nginx::ffi;
use crate::nginx::listeners::Listener;
use crate::nginx::log::{self, Level};
use crate::nginx::pipe::Watch;
use crate::nginx::process::lives;
use crate::nginx::timer::{Timer, now, unix};
use crate::session::{Direct, Session, host::Host};
use crate::ws::scratch::Scratch;

/// How often the zone is tended, in milliseconds.
const TICK: u64 = 1000;

/// What one subscriber gets at once by the short way.
const DIRECT: Budget = Budget { messages: 64, octets: 32 << 10 };

/// Memory that is kept to put messages together in.
const MOST_ROOM: usize = 256 << 10;

/// What concerns the programs that clients of channels share, which the worker's turns look after as well.
#[derive(Clone, Copy)]
pub struct ProgramCalls {
    /// Something has happened to one of them.
    pub news: fn(),
    /// A second has passed.
    pub tick: fn(),
}

/// The channels of one worker.
pub struct Hub {
    pub(in crate::nginx) store: Store<ZoneLock>,
    pub(in crate::nginx) slot: Slot,
    wakeups: Rc<Wakeups>,
    fan: FanOut,
    batch: Batch,
    scratch: Scratch,
    /// Room to put messages together in.
    room: Vec<u8>,
    forms: Vec<Rc<WireForm>>,
    /// Other workers wake this one as long as this lives.
    _watch: Watch,
    turn: Timer,
    later: Timer,
    /// The next of the subscribers that have had as much as their rates let them have may go on.
    held: Timer,
    /// When it fires, if it is set.
    held_until: Option<u64>,
    tick: Timer,
    /// The number of the slot of the other worker that was looked at last; at first that of this one, so that not all look at the same one.
    pub(super) looked_at: usize,
    programs: ProgramCalls,
}

thread_local! {
    static HUB: RefCell<Option<Box<Hub>>> = const { RefCell::new(None) };
}

/// A step with the hub; `None` where this worker has none.
pub fn with<R>(step: impl FnOnce(&mut Hub) -> R) -> Option<R> {
    HUB.with_borrow_mut(|hub| hub.as_deref_mut().map(step))
}

/// The worker begins to use the zone. `false` keeps nginx from starting it.
pub fn begin(zone: ChannelZone, programs: ProgramCalls) -> bool {
    // Without a master the process that read a new configuration goes on as its worker, perhaps with another zone.
    let previous = HUB.take();
    match Hub::new(zone, programs) {
        Ok(hub) => {
            if let Some(previous) = previous {
                previous.release();
            }
            HUB.set(Some(hub));
            true
        }
        Err(reason) => {
            log::cycle(Level::Emerg, format_args!("channels: {reason}"));
            false
        }
    }
}

/// The worker ends; its subscribers have gone.
pub fn end() {
    if let Some(hub) = HUB.take() {
        hub.release();
    }
}

/// Whether all these channels exist.
pub fn has_channels(keys: &[Key<'_>]) -> bool {
    with(|hub| keys.iter().all(|key| matches!(hub.info(*key), Ok(Some(_))))) == Some(true)
}

/// The time of this turn of the event loop.
pub fn time() -> Now {
    Now { clock: now(), unix: unix() }
}

impl Hub {
    fn new(zone: ChannelZone, programs: ProgramCalls) -> Result<Box<Self>, String> {
        let store = zone.store().map_err(|error| error.to_string())?;
        let wakeups = zone.wakeups().ok_or("the zone has no descriptors to wake workers with")?;
        let claimed = store.claim(process::own(), lives).map_err(|error| error.to_string())?;
        let slot = claimed.slot;
        let eventfd = wakeups.of_slot(slot.number()).ok_or("the zone has too few descriptors to wake workers with")?;
        // SAFETY: ngx_cycle is set before workers begin.
        let log = unsafe { (*ffi::ngx_cycle).log };
        let watch = Watch::of_arrivals(eventfd, on_wakeup, log)
            .map_err(|error| format!("this worker cannot hear of messages of other workers: {error}"))?;
        let tick = Timer::of_worker(on_tick).cancelable();
        wakeups.wake(claimed.wake);
        let mut hub = Box::new(Hub {
            store,
            slot,
            wakeups,
            fan: FanOut::new(Limits::default()),
            batch: Batch::default(),
            scratch: Scratch::default(),
            room: Vec::new(),
            forms: Vec::new(),
            _watch: watch,
            turn: Timer::of_worker(on_turn),
            later: Timer::of_worker(on_turn).cancelable(),
            held: Timer::of_worker(on_held).cancelable(),
            held_until: None,
            tick,
            looked_at: slot.number(),
            programs,
        });
        hub.tick.arm(TICK);
        Ok(hub)
    }

    fn release(self: Box<Self>) {
        // A zone that is damaged is repaired by its next user, who finds the slot's process dead.
        if let Ok(wake) = self.store.release(self.slot) {
            self.wakeups.wake(wake);
        }
    }

    /// Wakes workers.
    pub(in crate::nginx) fn wake(&mut self, wake: Wake) {
        let own = self.slot.number();
        let others = {
            let mut others = wake;
            others.remove(own);
            others
        };
        self.wakeups.wake(others);
        if wake.has(own) || self.store.log().has_news(self.slot) {
            self.turn.post_next();
        }
    }

    /// Wakes the worker in this slot, which finds nothing in its channels, but may wait for something else.
    pub fn wake_slot(&mut self, slot: usize) {
        let mut wake = Wake::default();
        wake.add(slot);
        self.wake(wake);
    }

    /// Whether something has come that has not been looked at.
    pub fn has_news(&self) -> bool {
        self.store.log().has_news(self.slot)
    }

    /// Adds a subscriber, which is woken as soon as this turn of the event loop is over if there is something for it.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`].
    pub fn subscribe(
        &mut self,
        options: &SubscribeOptions<'_>,
        listener: Listener,
    ) -> Result<SubscriberId, SubscribeError> {
        self.fan.subscribe(self.store.log(), self.slot, options, listener.number(), time())
    }

    /// Takes a subscriber away.
    pub fn unsubscribe(&mut self, id: SubscriberId) {
        // If the zone is damaged, its repair counts anew.
        let _ = self.fan.unsubscribe(self.store.log(), self.slot, id, time());
    }

    /// One form for all subscribers that get their messages in the same one.
    pub fn form(&mut self, form: WireForm) -> Rc<WireForm> {
        if !form.is_shared() {
            return Rc::new(form);
        }
        if let Some(known) = self.forms.iter().find(|known| ***known == form) {
            return Rc::clone(known);
        }
        self.forms.retain(|known| Rc::strong_count(known) > 1);
        let form = Rc::new(form);
        self.forms.push(Rc::clone(&form));
        form
    }

    /// Looks at what is there for a subscriber; `serve` gets it in order and says how many items of it were taken.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn serve(
        &mut self,
        id: SubscriberId,
        limit: Budget,
        serve: impl FnOnce(&Batch) -> usize,
    ) -> Result<Next, ReadError> {
        if self.fan.has_everything(id) {
            return Ok(Next::UpToDate);
        }
        let next = self.fan.peek(self.store.log(), id, limit, time(), &mut self.scratch, &mut self.batch)?;
        if next == Next::Items {
            let taken = serve(&self.batch);
            self.fan.advance(id, &self.batch, taken);
        }
        self.batch.clear();
        if next == Next::Held {
            self.watch_held();
        }
        Ok(next)
    }

    /// Sets the timer for the subscriber that may go on first, unless it is set for an earlier one already.
    fn watch_held(&mut self) {
        let Some(until) = self.fan.held_until() else { return };
        if self.held_until.is_none_or(|set| until < set) {
            // A timer that is set is left alone by nginx where the new time is about the same.
            self.held.disarm();
            self.held.arm(until.saturating_sub(now()).max(1));
            self.held_until = Some(until);
        }
    }

    /// Sends a session what is there for it. Whether that was all, and the session needs nothing more.
    pub fn serve_directly<H: Host>(&mut self, id: SubscriberId, session: &mut Session<H>) -> bool {
        loop {
            if !session.takes_directly() {
                return false;
            }
            match self.fan.peek(self.store.log(), id, DIRECT, time(), &mut self.scratch, &mut self.batch) {
                Ok(Next::Items) => {}
                Ok(Next::UpToDate) => return true,
                Ok(Next::Held) => {
                    self.watch_held();
                    return true;
                }
                Ok(Next::Lagging { .. } | Next::Gone | Next::Expelled) | Err(_) => return false,
            }
            let sent = session.send_directly(&self.batch, &mut self.room);
            self.fan.advance(id, &self.batch, self.batch.items().len());
            let more = self.batch.has_more();
            self.batch.clear();
            if self.room.capacity() > MOST_ROOM {
                self.room = Vec::new();
            }
            match sent {
                Direct::Sent if more => {}
                Direct::Sent => return true,
                Direct::Queued => return false,
            }
        }
    }

    /// The position of a subscriber, for its client to come back with.
    pub fn position(&self, id: SubscriberId) -> Option<String> {
        self.fan.position(id)
    }

    /// Messages that a subscriber has lost and is told of by its caller: see [`FanOut::take_losses`].
    pub fn take_losses(&mut self, id: SubscriberId) -> Option<u64> {
        self.fan.take_losses(id)
    }

    /// A subscriber takes nothing for now.
    pub fn block(&mut self, id: SubscriberId) {
        self.fan.block(id);
    }

    /// A subscriber takes more.
    pub fn unblock(&mut self, id: SubscriberId) {
        self.fan.unblock(id);
        self.turn.post_next();
    }
}
