// SPDX-License-Identifier: Apache-2.0

//! The wall between Rust and C.

use std::panic::{self, AssertUnwindSafe};

use super::status::Status;
use super::{ffi, log};

/// Runs what nginx called. A panic ends here: it is logged by the hook of [`install`] and answered with `fallback`.
pub fn guard<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    // Nothing that the closure touched is used again without going through the session, which is ended.
    panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or(fallback)
}

/// [`guard`] for what tells nginx how it went.
pub fn guard_status(fallback: Status, body: impl FnOnce() -> Status) -> ffi::ngx_int_t {
    guard(fallback, body).raw()
}

/// Sends panic messages to the error log; standard error is not a place that anybody reads.
pub fn install() {
    panic::set_hook(Box::new(|info| {
        log::cycle(log::Level::Crit, format_args!("ws_exec: internal error: {info}"));
    }));
}
