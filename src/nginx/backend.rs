// SPDX-License-Identifier: Apache-2.0

//! The [backends](Backend) of a worker: who keeps the channels of each location.
//!
//! Whoever waits for an answer asks here for the backend of its location, and knows no more of it.

#[cfg(feature = "test-backend")]
pub mod erratic;
mod zone;

pub use zone::ZoneAlone;

use std::cell::RefCell;
use std::rc::Rc;

use super::engine::{self, Engines};
use super::process_state;
use super::timer::now;
use crate::channel::backend::Backend;

thread_local! {
    /// In the order of the numbers by which locations name them, from 0. The zone alone is the first of them.
    static BACKENDS: RefCell<Vec<Rc<dyn Backend>>> = RefCell::new(vec![Rc::new(ZoneAlone)]);
}

/// The worker begins, or goes on with another configuration.
pub fn begin(engines: &Engines) {
    engine::begin(engines);
    BACKENDS.with_borrow_mut(|backends| {
        backends.truncate(1);
        #[cfg(feature = "test-backend")]
        if let Some(erratic) = erratic::backend() {
            backends[0] = erratic;
        }
        backends.extend(engine::backends());
    });
}

/// The worker has been told to go.
pub fn leaving() {
    #[cfg(feature = "test-backend")]
    erratic::leaving();
    engine::leaving();
}

/// For how many milliseconds a worker is kept by an answer that may take so many: not beyond the end of its last client, as nobody
/// waits after that.
pub fn keeps_worker(milliseconds: u64) -> u64 {
    process_state::clients_end().map_or(milliseconds, |by| milliseconds.min(by.saturating_sub(now()).max(1)))
}

/// The worker goes now: whoever waits for an answer gets one.
pub fn end() {
    #[cfg(feature = "test-backend")]
    erratic::end();
    engine::end();
}

/// Something may have happened in the zone.
pub fn news() {
    engine::news();
}

/// A second has passed.
pub fn tick() {
    engine::tick();
}

/// The backend with this number in the settings of a location.
pub fn of(number: usize) -> Rc<dyn Backend> {
    // A location of an earlier configuration may name one that there is no more.
    BACKENDS.with_borrow(|backends| backends.get(number).map_or_else(|| engine::absent(), Rc::clone))
}
