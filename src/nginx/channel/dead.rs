// SPDX-License-Identifier: Apache-2.0

//! Workers that have died without a word. nginx starts another one in the place of most of them, which clears their slots when it claims its own; in the
//! place of one that was told to go it starts none. Each worker therefore looks at another one every second, at one after the other.

use super::hub::Hub;
use crate::channel::store::Process;
use crate::nginx::process::lives;

impl Hub {
    /// Looks at the next one of the other workers, and clears its slot if it has died.
    pub(super) fn look_for_dead(&mut self) {
        // A zone that is damaged is repaired by its next user, and the next look is a second away.
        let Ok(Some((slot, worker))) = self.store.next_other(self.slot, self.looked_at) else { return };
        self.looked_at = slot.number();
        if !lives(worker) {
            self.release_dead(worker);
        }
    }

    /// Clears the slot of a worker that was found dead.
    pub fn release_dead(&mut self, worker: Process) {
        if let Ok(wake) = self.store.release_dead(worker) {
            self.wake(wake);
        }
    }
}
