// SPDX-License-Identifier: Apache-2.0

//! The zone that the workers of a simulation share.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::channel::lock::Unshared;
use crate::channel::memory::Region;
use crate::channel::store::{Now, Process, ProgramHandle, ProgramView, Slot, Store, Wake};

/// Somebody who only looks at the zone.
pub const OBSERVER: Process = Process { pid: u32::MAX, start: 1 };

/// What is the same for all workers.
pub struct World {
    pub now: Cell<u64>,
    pub store: Store<Unshared>,
    /// The slot of somebody who has no clients, and never any news of a program that is there.
    observer: Slot,
    /// The slots of workers to be woken.
    woken: RefCell<Wake>,
    /// Messages that were taken for a program and that no process has read, as the zone is to have them.
    pending: RefCell<Vec<(ProgramHandle, VecDeque<u64>)>>,
    last: Cell<u64>,
    /// After the next look of a worker at a program another one, in this slot, tells that it has ended.
    pub ends_after_look: Cell<Option<Slot>>,
}

impl World {
    pub fn new() -> Rc<Self> {
        let region = Region::private(1 << 20).expect("memory");
        let store = Store::create(region, Unshared, 8, [1, 2]).expect("room for a zone");
        let observer = store.claim(OBSERVER, |_| true).expect("a slot").slot;
        Rc::new(World {
            now: Cell::new(1_000),
            store,
            observer,
            woken: RefCell::default(),
            pending: RefCell::default(),
            last: Cell::new(0),
            ends_after_look: Cell::new(None),
        })
    }

    pub fn time(&self) -> Now {
        Now { clock: self.now.get(), unix: self.now.get() }
    }

    /// A number that was not used for anything.
    pub fn number(&self) -> u64 {
        self.last.set(self.last.get() + 1);
        self.last.get()
    }

    pub fn notify(&self, wake: Wake) {
        self.woken.borrow_mut().merge(wake);
    }

    /// Whether a worker was to be woken since this was asked last.
    pub fn take_woken(&self, slot: Slot) -> bool {
        let mut woken = self.woken.borrow_mut();
        let is_woken = woken.has(slot.number());
        woken.remove(slot.number());
        is_woken
    }

    pub fn pending(&self, program: ProgramHandle, step: impl FnOnce(&mut VecDeque<u64>)) {
        let mut pending = self.pending.borrow_mut();
        let at = match pending.iter().position(|(handle, _)| *handle == program) {
            Some(at) => at,
            None => {
                pending.push((program, VecDeque::new()));
                pending.len() - 1
            }
        };
        step(&mut pending[at].1);
    }

    /// Forgets the programs that the zone has no more, which had neither clients nor a process: their input went with them.
    pub fn forget_removed(&self) {
        self.pending.borrow_mut().retain(|(program, _)| !self.store.programs().has_news(*program, self.observer));
    }

    /// What somebody without clients sees of a program, who changes nothing by that.
    pub fn view(&self, program: ProgramHandle) -> Option<ProgramView> {
        let looked = self.store.programs().look_at(program, self.observer, false, 0, self.time());
        looked.expect("a sound zone").map(|(view, wake)| {
            assert!(wake.is_empty());
            view
        })
    }

    /// Messages that wait for a program.
    pub fn count_pending(&self, program: ProgramHandle) -> usize {
        let mut count = 0;
        self.pending(program, |pending| count = pending.len());
        count
    }
}
