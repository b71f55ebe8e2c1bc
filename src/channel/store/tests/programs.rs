// SPDX-License-Identifier: Apache-2.0

//! Programs that the clients of a channel share.

use super::*;
use crate::channel::fail::{Hit, arm, disarm, stopped};

const LEN: usize = 128 << 10;

const MOST: u64 = 1000;

impl Rig {
    fn attach(&self, id: &str, slot: Slot) -> ProgramHandle {
        self.subscribe(id, slot, 0);
        self.store.programs().attach(key(id), slot, self.now()).unwrap().unwrap()
    }

    fn look(&self, program: ProgramHandle, slot: Slot, clients: bool) -> Option<ProgramView> {
        self.store.programs().look_at(program, slot, clients, 0, self.now()).unwrap().map(|(view, _)| view)
    }

    fn push(&self, program: ProgramHandle, data: &[u8]) -> Result<Vec<usize>, InputError> {
        self.store.programs().push_input(program, Slot(1), &message(data), MOST, self.now()).map(Wake::collect)
    }

    fn input(&self, program: ProgramHandle, slot: Slot) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        self.store.programs().read_input(program, slot, usize::MAX, &mut out).unwrap();
        out.into_iter().map(|left| left.input.data).collect()
    }
}

fn message(data: &[u8]) -> Input {
    Input { kind: InputKind::Message(MessageKind::Text), data: data.to_vec() }
}

fn how(code: u32, reason: &str) -> Ended {
    Ended { code, status: 7, reason: reason.into() }
}

#[test]
fn one_worker_runs_it() {
    let rig = Rig::new(LEN);
    let (one, two) = (rig.claim(11), rig.claim(12));
    assert_eq!(rig.store.programs().attach(key("a"), one, rig.now()), Ok(None), "a channel that is not there");
    let program = rig.attach("a", one);
    assert_eq!(rig.attach("a", two), program);
    assert_eq!(rig.look(program, one, true).unwrap().owner, Owner::Nobody);
    assert_eq!(rig.store.programs().claim(program, two), Ok(true));
    assert_eq!(rig.store.programs().claim(program, one), Ok(false));
    assert_eq!(rig.store.programs().claim(program, two), Ok(false));
    rig.check();
    let view = rig.look(program, one, true).unwrap();
    assert_eq!((view.owner, view.phase), (Owner::Other(Process { pid: 12, start: 1 }), ProgramPhase::Starting));
    assert!(view.others && view.successors);
    assert!(rig.store.programs().runs(program, one, 5).unwrap().is_empty(), "not its program");
    assert_eq!(rig.store.programs().runs(program, two, 5).unwrap().collect::<Vec<_>>(), [0, 1]);
    assert!(rig.store.programs().take_news(one) && rig.store.programs().has_news(program, one));
    assert!(!rig.store.programs().take_news(one));
    assert_eq!(rig.look(program, one, true).unwrap().phase, ProgramPhase::Running(5));
    assert!(!rig.store.programs().has_news(program, one));
    // It ends by itself: the clients are told, with as much of the reason as there is room for.
    rig.push(program, b"unread").unwrap();
    let long = "x".repeat(500);
    rig.store.programs().ended(program, two, &how(1011, &long), rig.now()).unwrap();
    let view = rig.look(program, one, true).unwrap();
    assert_eq!((view.owner, view.phase, view.run, view.input), (Owner::Nobody, ProgramPhase::Idle, 1, false));
    let ended = view.ended.unwrap();
    assert_eq!((ended.code, ended.status), (1011, 7));
    assert!(ended.reason.len() >= 123 && long.as_bytes().starts_with(&ended.reason));
    rig.check();
    // Without clients nothing is left of it.
    rig.look(program, one, false);
    assert!(rig.look(program, two, false).is_some());
    assert_eq!(rig.look(program, two, false), None);
    rig.check();
}

#[test]
fn input_waits_until_it_is_consumed() {
    let rig = Rig::new(LEN);
    let (one, two) = (rig.claim(11), rig.claim(12));
    let program = rig.attach("a", one);
    rig.attach("a", two);
    assert_eq!(rig.push(program, b"before"), Ok(vec![]));
    assert_eq!(rig.input(program, one), [b""; 0], "not its program");
    rig.store.programs().claim(program, one).unwrap();
    assert_eq!(rig.push(program, &[7; 900]), Ok(vec![0]));
    assert_eq!(rig.push(program, &[8; 100]), Err(InputError::Full));
    assert_eq!(rig.push(program, &[8; 94]), Ok(vec![]));
    assert_eq!(rig.push(program, &vec![8; LEN]), Err(InputError::TooLarge));
    assert_eq!(rig.input(program, one), [&b"before"[..], &[7; 900], &[8; 94]]);
    // A flood of messages takes none of it away.
    for n in 0..5000 {
        rig.publish(&(n % 7).to_string(), &[0; 300]);
    }
    rig.check();
    rig.store.programs().take_news(two);
    assert_eq!(rig.store.programs().consume_input(program, one, 1).unwrap().collect::<Vec<_>>(), [1], "there is room");
    assert_eq!(rig.push(program, &vec![9; 5000]), Err(InputError::Full));
    assert_eq!(rig.input(program, one).len(), 2);
    rig.store.programs().consume_input(program, one, 2).unwrap();
    assert_eq!(rig.push(program, &vec![9; 5000]), Ok(vec![]), "what is larger is taken when nothing waits");
    assert_eq!(rig.input(program, one), [vec![9; 5000]]);
    let mut out = Vec::new();
    rig.push(program, b"x").unwrap_err();
    rig.store.programs().read_input(program, one, 1, &mut out).unwrap();
    assert_eq!(out.len(), 1);
    rig.check();
    // Another worker goes on with what was not consumed.
    rig.store.programs().left(program, one, rig.now()).unwrap();
    assert!(rig.look(program, two, true).unwrap().input);
    rig.store.programs().claim(program, two).unwrap();
    assert_eq!(rig.input(program, two), [vec![9; 5000]]);
    rig.check();
}

#[test]
fn one_worker_after_the_other_is_looked_at() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    assert_eq!(rig.store.next_other(one, one.number()), Ok(None), "there is nobody else");
    let (two, three) = (rig.claim(12), rig.claim(13));
    let next =
        |after: Slot| rig.store.next_other(two, after.number()).unwrap().map(|(slot, process)| (slot, process.pid));
    assert_eq!(next(two), Some((three, 13)));
    assert_eq!(next(three), Some((one, 11)));
    assert_eq!(next(one), Some((three, 13)), "not the one that looks");
    rig.store.release(three).unwrap();
    assert_eq!(next(one), Some((one, 11)));
}

#[test]
fn a_worker_dies_or_leaves() {
    let rig = Rig::new(LEN);
    let (one, two) = (rig.claim(11), rig.claim(12));
    let program = rig.attach("a", one);
    rig.attach("a", two);
    rig.store.programs().claim(program, one).unwrap();
    rig.store.programs().take_news(two);
    let wake = rig.store.release_dead(Process { pid: 11, start: 1 }).unwrap();
    assert!(wake.has(two.number()));
    rig.check();
    let view = rig.look(program, two, true).unwrap();
    assert_eq!((view.owner, view.others, view.run), (Owner::Nobody, false, 0));
    assert_eq!(rig.store.programs().claim(program, two), Ok(true));
    // A worker that is leaving lets others go first.
    let three = rig.claim(13);
    rig.attach("a", three);
    rig.store.programs().leave(two).unwrap();
    assert!(rig.look(program, two, true).unwrap().successors);
    rig.store.programs().left(program, two, rig.now()).unwrap();
    assert_eq!(rig.store.programs().claim(program, two), Ok(false));
    rig.store.programs().leave(three).unwrap();
    assert_eq!(rig.store.programs().claim(program, two), Ok(true));
    assert!(!rig.look(program, two, true).unwrap().successors);
    assert!(rig.store.release(two).unwrap().has(three.number()));
    assert_eq!(rig.store.programs().claim(program, three), Ok(true));
    rig.check();
    rig.store.log().delete(key("a"), rig.now()).unwrap();
    assert!(rig.look(program, three, true).unwrap().deleted);
    rig.look(program, three, false);
    rig.store.programs().left(program, three, rig.now()).unwrap();
    rig.drain(three);
    rig.check();
    rig.pass(10 * LINGER);
    rig.store.tend(rig.now(), usize::MAX).unwrap();
    assert_eq!(rig.store.usage().unwrap().channels, 0);
}

/// Stops `operation` before each of its writes; the zone is sound after each, and nothing of the input that was there
/// before is lost or torn.
fn at_every_point(operation: impl Fn(&Rig, ProgramHandle, Slot)) {
    for point in 0.. {
        let rig = Rig::new(LEN);
        let (one, two) = (rig.claim(11), rig.claim(12));
        rig.publish("a", b"message");
        let program = rig.attach("a", one);
        rig.attach("a", two);
        rig.store.programs().claim(program, one).unwrap();
        rig.push(program, b"first").unwrap();
        rig.push(program, &[2; 600]).unwrap();
        arm(point, Hit::Unwind);
        let hit = stopped(|| operation(&rig, program, one));
        disarm();
        if !hit {
            assert!(point > 2, "{point}");
            return;
        }
        rig.store.usage().unwrap();
        rig.check();
        let expected = [b"first".to_vec(), vec![2; 600], vec![3; 300]];
        let owner = rig.store.programs().owner_of(program);
        let seen = owner.map(|nth| rig.input(program, Slot(nth)));
        if let Some(seen) = &seen {
            assert!(
                expected.starts_with(seen) || expected[1..].starts_with(seen) || seen.is_empty(),
                "{point}: {} messages",
                seen.len()
            );
        }
        // It goes on: another worker takes it over.
        rig.store.release_dead(Process { pid: 11, start: 1 }).unwrap();
        rig.check();
        let program = rig.attach("a", two);
        assert_eq!(rig.store.programs().claim(program, two), Ok(true), "{point}");
        rig.store.programs().consume_input(program, two, usize::from(u16::MAX)).unwrap();
        assert!(rig.push(program, b"next").is_ok());
        assert_eq!(rig.input(program, two), [b"next"]);
        assert!(rig.info("a").is_some_and(|info| info.messages == 1));
        rig.check();
        rig.look(program, two, false);
        rig.store.programs().left(program, two, rig.now()).unwrap();
        rig.check();
        assert_eq!(rig.store.zone.unlocked().header().unwrap().input_cells.get(), 0);
    }
}

#[test]
fn interrupted() {
    at_every_point(|rig, program, _| {
        rig.push(program, &[3; 300]).unwrap();
    });
    at_every_point(|rig, program, one| {
        rig.store.programs().consume_input(program, one, 1).unwrap();
    });
    at_every_point(|rig, program, one| {
        rig.store.programs().ended(program, one, &how(1000, "reason"), rig.now()).unwrap();
    });
    at_every_point(|rig, program, one| {
        rig.store.programs().left(program, one, rig.now()).unwrap();
    });
    at_every_point(|rig, _, one| {
        rig.store.release(one).unwrap();
    });
    at_every_point(|rig, _, _| {
        rig.attach("b", Slot(1));
    });
    at_every_point(|rig, program, one| {
        rig.look(program, one, false);
        rig.store.programs().left(program, one, rig.now()).unwrap();
        rig.look(program, Slot(1), false);
    });
    at_every_point(|rig, _, _| {
        rig.store.zone.unlocked().header().unwrap().busy.set(1);
        rig.store.usage().unwrap();
    });
}
