// SPDX-License-Identifier: Apache-2.0

//! The timers of a shared program, and the events of its pipes.

use std::cell::RefCell;
use std::ptr::NonNull;
use std::rc::Rc;

use super::programs;
use crate::nginx::backend;
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::timer::{self, Timer};
use crate::session::shared::SharedProgramId;
use crate::session::shared::host::Timers;

/// Milliseconds for which a worker that has been told to go stays for a program if nothing is said: about the longest that a timer of
/// nginx can be set to, 24 days.
const LONG: u64 = i32::MAX as u64;

/// What events carry. It stays where it is as long as anything may be called with it.
pub struct Events {
    id: SharedProgramId,
    linger: RefCell<Timer>,
    turn: RefCell<Timer>,
    /// Does not keep a worker that has been told to go.
    retry: RefCell<Timer>,
    /// Does not keep a worker that has been told to go.
    resize: RefCell<Timer>,
    /// Does nothing but to keep a worker that has been told to go.
    keep: RefCell<Timer>,
}

/// The timers of a shared program. Whose events carry [`SharedTimers::data`] owns one of these.
#[derive(Clone)]
pub struct SharedTimers(Rc<Events>);

impl SharedTimers {
    /// Timers that call with this id.
    pub fn new(id: SharedProgramId) -> Self {
        let events = Rc::new(Events {
            id,
            linger: RefCell::new(Timer::of_worker(on_linger).cancelable()),
            turn: RefCell::new(Timer::of_worker(on_turn)),
            retry: RefCell::new(Timer::of_worker(on_turn).cancelable()),
            resize: RefCell::new(Timer::of_worker(on_turn).cancelable()),
            keep: RefCell::new(Timer::of_worker(on_keep)),
        });
        for timer in [&events.linger, &events.turn, &events.retry, &events.resize, &events.keep] {
            timer.borrow_mut().set_owner(Rc::as_ptr(&events).cast_mut().cast());
        }
        SharedTimers(events)
    }

    /// The data of connections whose events come to [`on_pipe`].
    pub fn data(&self) -> NonNull<Events> {
        NonNull::from(&*self.0)
    }

    /// Gives the program another turn in so many milliseconds, for the size of its terminal.
    pub fn set_resize(&self, milliseconds: u64) {
        let mut resize = self.0.resize.borrow_mut();
        // nginx leaves a timer alone whose time changes by little.
        resize.disarm();
        resize.arm(milliseconds);
    }
}

impl Timers for SharedTimers {
    fn set_linger(&self, milliseconds: u64) {
        self.0.linger.borrow_mut().arm(milliseconds);
    }

    fn clear_linger(&self) {
        self.0.linger.borrow_mut().disarm();
    }

    fn post_turn(&self) {
        self.0.turn.borrow_mut().post_next();
    }

    fn set_turn(&self, milliseconds: u64) {
        let mut turn = self.0.turn.borrow_mut();
        // nginx leaves a timer alone whose time changes by little.
        turn.disarm();
        turn.arm(milliseconds);
    }

    fn set_retry(&self, milliseconds: u64) {
        self.0.retry.borrow_mut().arm(milliseconds);
    }

    fn keep_worker(&self, keeps: bool) {
        let mut keep = self.0.keep.borrow_mut();
        if keeps {
            // nginx leaves a timer alone whose time changes by little.
            keep.disarm();
            keep.arm(backend::keeps_worker(LONG));
        } else {
            keep.disarm();
        }
    }
}

/// The program behind an event, whose timers are marked as seen.
///
/// # Safety
///
/// The event is one of a timer of [`Events`].
unsafe fn of_timer<const N: usize>(
    event: *mut ffi::ngx_event_t,
    timers: fn(&Events) -> [&RefCell<Timer>; N],
) -> Option<SharedProgramId> {
    // SAFETY: the owner of the timer is what owns the timer, which removes it before it is freed.
    let events = unsafe { timer::owner::<Events>(event)?.as_ref() };
    for timer in timers(events) {
        timer.borrow_mut().take_expired();
    }
    Some(events.id)
}

/// The program has outlived its clients for long enough.
unsafe extern "C" fn on_linger(event: *mut ffi::ngx_event_t) {
    guard((), || {
        // SAFETY: this handler is only given to linger timers, so that the event is one of those.
        let id = unsafe { of_timer(event, |events| [&events.linger]) };
        if let Some(id) = id {
            programs().on_linger(id);
        }
    });
}

/// The program has more to say.
unsafe extern "C" fn on_turn(event: *mut ffi::ngx_event_t) {
    guard((), || {
        // SAFETY: the event is that of a turn, or of another try.
        let id = unsafe { of_timer(event, |events| [&events.turn, &events.retry, &events.resize]) };
        if let Some(id) = id {
            programs().on_turn(id);
        }
    });
}

/// The program keeps its worker no longer: that was all that the timer was set for.
unsafe extern "C" fn on_keep(event: *mut ffi::ngx_event_t) {
    guard((), || {
        // SAFETY: this handler is only given to timers that keep the worker, so that the event is one of those.
        let _ = unsafe { of_timer(event, |events| [&events.keep]) };
    });
}

/// Something can be read of the program, or be written to it.
pub unsafe extern "C" fn on_pipe(event: *mut ffi::ngx_event_t) {
    guard((), || {
        // SAFETY: the event of a connection has the connection as its data, and that the events, which the process owns with
        // its pipes. When the worker is being shut down nginx marks every connection; the end of the worker ends the program.
        let id = unsafe {
            let connection = (*event).data.cast::<ffi::ngx_connection_t>();
            if (*connection).close() != 0 {
                return;
            }
            (*connection).data.cast::<Events>().as_ref().map(|events| events.id)
        };
        if let Some(id) = id {
            programs().on_ready(id);
        }
    });
}
