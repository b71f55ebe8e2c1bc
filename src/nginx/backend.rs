// SPDX-License-Identifier: Apache-2.0

//! The [backends](Backend) of a worker: who keeps the channels of each location.
//!
//! Whoever waits for an answer asks here for the backend of its location, and knows no more of it.

mod zone;

pub use zone::ZoneAlone;

use std::cell::RefCell;
use std::rc::Rc;

use super::engine::{self, Engines};
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
        backends.extend(engine::backends());
    });
}

/// The worker has been told to go.
pub fn leaving() {
    engine::leaving();
}

/// The worker goes now: whoever waits for an answer gets one.
pub fn end() {
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
