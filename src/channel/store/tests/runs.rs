// SPDX-License-Identifier: Apache-2.0

//! Runs of programs that requests begin, and how long they are kept.

use super::*;
use crate::channel::fail::{Hit, arm, disarm, stopped};
use crate::channel::position::MessageId;

const LEN: usize = 128 << 10;

const KEEPS: u64 = 5_000;

impl Rig {
    fn begin(&self, id: &str, slot: Slot) -> Begun {
        self.subscribe(id, slot, 0);
        self.store.programs().begin(key(id), slot, KEEPS, self.now()).unwrap()
    }

    fn begun(&self, id: &str, slot: Slot) -> ProgramHandle {
        let Begun::Begun(program) = self.begin(id, slot) else { panic!("there is a run already") };
        program
    }

    fn join_run(&self, id: &str, slot: Slot) -> Option<ProgramHandle> {
        self.store.programs().follow(key(id), slot, self.now()).unwrap()
    }

    fn beginning(&self, id: &str) -> Option<MessageId> {
        self.store.programs().beginning(key(id), self.now()).unwrap()
    }

    fn seen(&self, program: ProgramHandle, slot: Slot, clients: bool) -> Option<ProgramView> {
        self.store.programs().look_at(program, slot, clients, 0, self.now()).unwrap().map(|(view, _)| view)
    }

    fn tend(&self) {
        self.store.tend(self.now(), usize::MAX).unwrap();
        self.check();
    }
}

fn end() -> Ended {
    Ended { code: 1000, status: 7, reason: b"reason".to_vec() }
}

#[test]
fn a_run_is_begun_once_and_kept() {
    let rig = Rig::new(LEN);
    let (one, two) = (rig.claim(11), rig.claim(12));
    assert_eq!(rig.store.programs().begin(key("a"), one, KEEPS, rig.now()), Err(SubscribeError::Missing));
    rig.publish("a", b"before");
    assert_eq!(rig.join_run("a", two), None, "nobody has begun one");
    let program = rig.begun("a", one);
    assert_eq!((rig.begin("a", one), rig.begin("a", two)), (Begun::Taken, Begun::Taken));
    let before = rig.beginning("a").unwrap();
    assert_eq!(before.offset.0, 1, "what was there before is not of the run");
    assert_eq!(rig.join_run("a", two), Some(program));
    assert_eq!(rig.store.programs().claim(program, two), Ok(false), "it is not another one's to go on");
    let view = rig.seen(program, two, true).unwrap();
    assert!(view.requested && !view.kept && view.successors);
    rig.store.programs().runs(program, one, 5).unwrap();
    rig.publish("a", b"said");
    rig.store.programs().ended(program, one, &end(), rig.now()).unwrap();
    rig.check();
    let view = rig.seen(program, two, true).unwrap();
    assert_eq!((view.owner, view.requested, view.kept), (Owner::Nobody, false, true));
    assert_eq!(view.ended, Some(end()));
    // It needs no clients.
    rig.seen(program, one, false);
    rig.seen(program, two, false);
    rig.pass(KEEPS - 1);
    rig.tend();
    assert_eq!(rig.beginning("a"), Some(before));
    assert_eq!(rig.join_run("a", two), Some(program));
    rig.seen(program, two, false);
    assert_eq!(rig.begin("a", two), Begun::Taken);
    rig.pass(1);
    assert_eq!((rig.beginning("a"), rig.join_run("a", two)), (None, None));
    rig.pass(2_000);
    rig.tend();
    assert_eq!(rig.seen(program, two, false), None, "nothing is left of it");
    let next = rig.begun("a", two);
    assert_eq!(rig.beginning("a").unwrap().offset.0, 2);
    rig.store.programs().left(next, two, rig.now()).unwrap();
    assert_eq!(rig.beginning("a"), None, "one that was stopped is not kept");
    rig.check();
}

#[test]
fn nobody_writes_to_a_run_that_is_over() {
    let rig = Rig::new(LEN);
    let (one, two) = (rig.claim(11), rig.claim(12));
    let program = rig.begun("a", one);
    let push = || {
        let message = Input { kind: InputKind::Message(MessageKind::Text), data: b"more".to_vec() };
        rig.store.programs().push_input(program, two, &message, 100, rig.now()).map(|_| ())
    };
    rig.join_run("a", two);
    rig.store.programs().runs(program, one, 5).unwrap();
    assert_eq!(push(), Ok(()));
    rig.store.programs().ended(program, one, &end(), rig.now()).unwrap();
    assert_eq!(push(), Err(InputError::Gone));
    // Who starts the program anew finds nothing that was meant for the run.
    assert_eq!(rig.store.programs().claim(program, two), Ok(true));
    let mut left = Vec::new();
    rig.store.programs().read_input(program, two, usize::MAX, &mut left).unwrap();
    assert!(left.is_empty());
    assert_eq!(push(), Ok(()), "and is written to");
    rig.check();
}

#[test]
fn a_run_that_is_stopped_before_it_runs_is_no_run() {
    let rig = Rig::new(LEN);
    let (one, two) = (rig.claim(11), rig.claim(12));
    let program = rig.begun("a", one);
    rig.store.programs().stops(program, one).unwrap();
    rig.store.programs().runs(program, one, 5).unwrap();
    assert_eq!((rig.join_run("a", two), rig.beginning("a")), (None, None), "its process has come too late");
    rig.check();
}

#[test]
fn a_run_that_has_not_begun_is_not_kept() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    let program = rig.begun("a", one);
    rig.store.programs().ended(program, one, &end(), rig.now()).unwrap();
    assert_eq!(rig.beginning("a"), None);
    assert!(!rig.seen(program, one, true).unwrap().requested);
    rig.begun("a", one);
    rig.check();
}

#[test]
fn one_that_others_start_gives_way_and_takes_over() {
    let rig = Rig::new(LEN);
    let (one, two) = (rig.claim(11), rig.claim(12));
    let program = rig.begun("a", one);
    rig.store.programs().runs(program, one, 5).unwrap();
    rig.store.programs().ended(program, one, &end(), rig.now()).unwrap();
    assert_eq!(rig.store.programs().claim(program, two), Ok(true), "what is kept is no reason not to start it");
    assert_eq!(rig.begin("a", one), Begun::Taken);
    assert!(rig.beginning("a").is_some(), "who follows finds any run");
    rig.check();
}

#[test]
fn its_worker_dies() {
    let rig = Rig::new(LEN);
    let (one, two) = (rig.claim(11), rig.claim(12));
    let program = rig.begun("a", one);
    rig.store.programs().runs(program, one, 5).unwrap();
    rig.join_run("a", two);
    rig.store.release_dead(Process { pid: 11, start: 1 }).unwrap();
    rig.check();
    assert!(rig.seen(program, two, true).unwrap().requested);
    assert_eq!((rig.begin("a", two), rig.beginning("a")), (Begun::Taken, None), "nobody has said how it ended");
    rig.store.programs().lost(program, &end(), rig.now()).unwrap();
    rig.store.programs().lost(program, &end(), rig.now()).unwrap();
    let view = rig.seen(program, two, true).unwrap();
    assert_eq!((view.run, view.kept, view.ended), (1, true, Some(end())), "it ends once");
    rig.check();
    rig.seen(program, two, false);
    // Of one that had no other clients nothing is kept.
    let three = rig.claim(13);
    rig.begun("b", three);
    rig.store.release_dead(Process { pid: 13, start: 1 }).unwrap();
    rig.begun("b", two);
    rig.check();
}

#[test]
fn a_channel_that_is_deleted_keeps_nothing() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    let program = rig.begun("a", one);
    rig.store.programs().runs(program, one, 5).unwrap();
    rig.store.programs().ended(program, one, &end(), rig.now()).unwrap();
    rig.seen(program, one, false);
    rig.store.log().delete(key("a"), rig.now()).unwrap();
    assert_eq!(rig.beginning("a"), None);
    rig.check();
    rig.drain(one);
    rig.pass(10 * LINGER);
    rig.tend();
    assert_eq!(rig.store.usage().unwrap().channels, 0);
}

#[test]
fn runs_that_are_kept_leave_room_for_workers() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    let mut begun = 0;
    let refused = loop {
        let id = begun.to_string();
        if rig.publish_room(&id, one).is_err() {
            break None;
        }
        match rig.store.programs().begin(key(&id), one, KEEPS, rig.now()) {
            Ok(Begun::Begun(program)) => {
                rig.store.programs().runs(program, one, 5).unwrap();
                rig.store.programs().ended(program, one, &end(), rig.now()).unwrap();
                rig.seen(program, one, false);
                begun += 1;
            }
            Ok(Begun::Taken) => panic!("another id"),
            Err(error) => break Some(error),
        }
        assert!(begun < 10_000);
    };
    assert!(begun > 0 && refused.is_none_or(|error| error == SubscribeError::NoRoom));
    rig.check();
    rig.pass(KEEPS + 2_000);
    rig.tend();
    rig.begun("next", one);
    rig.check();
}

impl Rig {
    /// A subscriber of a channel, as whoever begins a run is one.
    fn publish_room(&self, id: &str, slot: Slot) -> Result<Subscribed, SubscribeError> {
        self.store.log().subscribe(key(id), slot, Token(0), TERMS, self.now())
    }
}

/// Stops `operation` before each of its writes: the zone is sound after each, and its user goes on with it.
fn at_every_point(operation: impl Fn(&Rig, ProgramHandle, Slot)) {
    for point in 0.. {
        let rig = Rig::new(LEN);
        let (one, two) = (rig.claim(11), rig.claim(12));
        let program = rig.begun("a", one);
        rig.store.programs().runs(program, one, 5).unwrap();
        rig.join_run("a", two);
        arm(point, Hit::Unwind);
        let hit = stopped(|| operation(&rig, program, one));
        disarm();
        if !hit {
            assert!(point > 0, "{point}");
            return;
        }
        rig.store.usage().unwrap();
        rig.check();
        rig.store.release_dead(Process { pid: 11, start: 1 }).unwrap();
        rig.check();
        rig.store.programs().lost(program, &end(), rig.now()).unwrap();
        rig.check();
        rig.seen(program, two, false);
        rig.pass(KEEPS + 2_000);
        rig.tend();
        rig.begun("a", two);
        rig.check();
    }
}

#[test]
fn interrupted() {
    at_every_point(|rig, program, one| {
        rig.store.programs().ended(program, one, &end(), rig.now()).unwrap();
    });
    at_every_point(|rig, program, one| {
        rig.store.programs().left(program, one, rig.now()).unwrap();
    });
    at_every_point(|rig, _, one| {
        rig.begin("b", one);
    });
    at_every_point(|rig, program, one| {
        rig.store.release(one).unwrap();
        rig.store.programs().lost(program, &end(), rig.now()).unwrap();
    });
    at_every_point(|rig, program, one| {
        rig.store.programs().ended(program, one, &end(), rig.now()).unwrap();
        rig.store.zone.unlocked().header().unwrap().busy.set(1);
        rig.store.usage().unwrap();
    });
}
