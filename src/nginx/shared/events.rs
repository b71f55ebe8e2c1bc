// SPDX-License-Identifier: Apache-2.0

//! What happens to a program while nobody asks.

use super::table::{Anchor, SharedId, with};
use super::{examine, run, wake};
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::timer;

/// The anchor behind an event.
///
/// # Safety
///
/// The event is one of a timer of an anchor.
unsafe fn of_timer(event: *mut ffi::ngx_event_t) -> Option<SharedId> {
    // SAFETY: the owner of the timer is the anchor, which removes it before it is freed.
    unsafe { timer::owner::<Anchor>(event).map(|anchor| anchor.as_ref().id) }
}

/// The program has outlived its clients for long enough.
pub(super) unsafe extern "C" fn on_linger(event: *mut ffi::ngx_event_t) {
    guard((), || {
        // SAFETY: the event is that of a linger timer.
        let Some(id) = (unsafe { of_timer(event) }) else { return };
        with(id, |local| {
            local.anchor.linger.take_expired();
            local.lingering = false;
            local.lingered = true;
        });
        examine(id);
        run(id);
    });
}

/// The program has more to say.
pub(super) unsafe extern "C" fn on_turn(event: *mut ffi::ngx_event_t) {
    guard((), || {
        // SAFETY: the event is that of a turn.
        let Some(id) = (unsafe { of_timer(event) }) else { return };
        let starved = with(id, |local| {
            local.anchor.turn.take_expired();
            local.anchor.later.take_expired();
            local.starved.drain().collect::<Vec<_>>()
        });
        wake(id, &starved.unwrap_or_default());
        run(id);
        if with(id, |local| local.winding) == Some(true) {
            examine(id);
        }
    });
}

/// Something can be read of the program, or be written to it.
pub(super) unsafe extern "C" fn on_pipe(event: *mut ffi::ngx_event_t) {
    guard((), || {
        // SAFETY: the event of a connection has the connection as its data, and that the anchor, which outlives it. When
        // the worker is being shut down nginx marks every connection; the end of the worker ends the program.
        let id = unsafe {
            let connection = (*event).data.cast::<ffi::ngx_connection_t>();
            if ffi::ngx_ws_connection_close_requested(connection) != 0 {
                return;
            }
            (*connection).data.cast::<Anchor>().as_ref().map(|anchor| anchor.id)
        };
        if let Some(id) = id {
            run(id);
        }
    });
}
