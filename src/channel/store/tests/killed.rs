// SPDX-License-Identifier: Apache-2.0

//! Real processes over real shared memory, killed with SIGKILL.

#![allow(unsafe_code)]

use std::collections::HashMap;
use std::rc::Rc;

use super::*;
use crate::channel::fail::{Hit, arm, disarm};
use crate::channel::lock::Lock;
use crate::channel::memory::Word;

/// The process id of the holder, in memory of its own: as nginx does it, and released the same way when it dies.
#[derive(Clone)]
struct PidLock(Rc<Region>);

impl PidLock {
    fn new() -> Self {
        Self(Rc::new(Region::shared(4096).unwrap()))
    }

    fn word(&self) -> &Word {
        self.0.at(0).unwrap()
    }

    /// What the master does after it has reaped a worker.
    fn release_for(&self, dead: u32) -> bool {
        self.word().exchange(dead, 0)
    }
}

impl Lock for PidLock {
    fn lock(&self) {
        while !self.word().exchange(0, std::process::id()) {
            std::thread::yield_now();
        }
    }

    fn unlock(&self) {
        assert!(self.word().exchange(std::process::id(), 0), "not the holder");
    }
}

/// A child process, killed and reaped at the latest when this goes.
struct Child {
    pid: libc::pid_t,
    status: Option<i32>,
}

impl Child {
    /// Runs `work` in a copy of this process.
    fn start(work: impl FnOnce()) -> Self {
        // SAFETY: the child only works on the zone and allocates, which glibc allows after a fork; it never returns.
        match unsafe { libc::fork() } {
            -1 => panic!("fork: {}", std::io::Error::last_os_error()),
            0 => {
                let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                // SAFETY: ends this process at once.
                unsafe { libc::_exit(i32::from(end.is_err())) }
            }
            pid => Self { pid, status: None },
        }
    }

    fn id(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    fn kill(&mut self) -> i32 {
        // SAFETY: a child of this process that has not been reaped.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        self.wait()
    }

    fn wait(&mut self) -> i32 {
        *self.status.get_or_insert_with(|| {
            let mut status = 0;
            // SAFETY: a child of this process that has not been reaped; `status` is valid for writing.
            assert_eq!(unsafe { libc::waitpid(self.pid, &raw mut status, 0) }, self.pid);
            status
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.kill();
        }
    }
}

/// The terms of somebody who says who it is.
const NAMED: Terms<'_> = Terms { presence: b"somebody", ..TERMS };

const NOW: Now = Now { clock: 1_000_000, unix: 1 };

fn zone(len: usize) -> (Store<PidLock>, PidLock) {
    let lock = PidLock::new();
    (Store::create(Region::shared(len).unwrap(), lock.clone(), 16, [3, 4]).unwrap(), lock)
}

fn check_zone(store: &Store<PidLock>) {
    store.check().unwrap().unwrap();
}

/// A message whose data says what it must be.
fn message(seed: u32, len: usize) -> Vec<u8> {
    let mut data = seed.to_le_bytes().to_vec();
    data.extend((0..len).map(|n| (seed.wrapping_mul(31).wrapping_add(n as u32) >> 3) as u8));
    data
}

fn is_whole(data: &[u8]) -> bool {
    data.first_chunk().is_some_and(|seed| message(u32::from_le_bytes(*seed), data.len() - 4) == data)
}

fn publish(store: &Store<PidLock>, id: &str, data: &[u8], history: History) -> Published {
    let (head, tail) = data.split_at(data.len() / 2);
    let publication = Publication { kind: MessageKind::Binary, content_type: b"a/b", event: b"", data: &[head, tail] };
    store.log().publish(key(id), &publication, policy(history), NOW).unwrap()
}

/// Every message of every channel is whole.
fn read_everything(store: &Store<PidLock>, ids: impl Iterator<Item = String>) {
    for id in ids {
        let hash = store.zone.unlocked().hash(key(&id)).unwrap();
        let found = store.zone.view(|memory| {
            let Some(cell) = memory.find(key(&id), hash)? else { return Ok(None) };
            Ok(Some(Handle { cell, life: memory.record(cell)?.epoch.get() }))
        });
        let Some(handle) = found.unwrap() else { continue };
        let mut out = Vec::new();
        match store.log().read(handle, Offset(1), ALL, NOW, &mut out) {
            // Somebody else has deleted it since.
            Err(ReadError::Gone) => continue,
            read => read.unwrap(),
        };
        assert!(out.iter().all(|message| is_whole(message.data())), "{id}");
        assert!(out.windows(2).all(|pair| pair[1].id.offset == pair[0].id.offset.next()), "{id}");
    }
}

/// When nobody is left and everything is deleted, the zone is as it was in the beginning.
fn empties(store: &Store<PidLock>, ids: impl Iterator<Item = String>) {
    for id in ids {
        store.log().delete(key(&id), NOW).unwrap();
    }
    let later = Now { clock: NOW.clock + 10 * LINGER, ..NOW };
    let slot = store.claim(Process { pid: 1, start: 0 }, |_| false).unwrap().slot;
    store.tend(later, usize::MAX).unwrap();
    store.release(slot).unwrap();
    check_zone(store);
    let usage = store.usage().unwrap();
    assert_eq!((usage.channels, usage.messages, usage.free_cells), (0, 0, usage.cells));
}

#[test]
fn at_every_fail_point() {
    let (store, lock) = zone(200 << 10);
    let reader = store.claim(Process { pid: std::process::id(), start: 1 }, |_| true).unwrap().slot;
    store.log().subscribe(key("a"), reader, Token(5), TERMS, NOW).unwrap();
    let mut seen = 0;
    let mut points = 0;
    for point in 0.. {
        // Three operations of a worker that begins and is killed sooner or later.
        let mut child = Child::start(|| {
            arm(point, Hit::Kill);
            let own = Process { pid: std::process::id(), start: 1 };
            let parent = std::os::unix::process::parent_id();
            let slot = store.claim(own, |process| process.pid == parent).unwrap().slot;
            let subscribed = store.log().subscribe(key("a"), slot, Token(6), NAMED, NOW).unwrap();
            store.log().subscribe(key("a"), slot, Token(6), NAMED, NOW).unwrap();
            store.log().unsubscribe(subscribed.channel, slot, subscribed.present, NOW).unwrap();
            publish(&store, "a", &message(point as u32, 600), KEEP);
            publish(&store, "b", &message(point as u32, 6), KEEP);
            store.log().drain(slot, ALL, NOW, &mut Vec::new()).unwrap();
            disarm();
        });
        let status = child.wait();
        lock.release_for(child.id());
        store.usage().unwrap();
        check_zone(&store);
        let mut news = Vec::new();
        assert!(!store.log().drain(reader, ALL, NOW, &mut news).unwrap());
        for (offset, data) in messages(&news, 5) {
            assert_eq!(offset, seen + 1, "no loss, no repeat");
            assert!(is_whole(&data));
            seen = offset;
        }
        read_everything(&store, ["a", "b"].into_iter().map(str::to_owned));
        check_zone(&store);
        let presence = store.presence().of(key("a")).unwrap().unwrap();
        assert!(presence.names.values().sum::<u32>() < presence.subscribers, "{presence:?}");
        if status == 0 {
            break;
        }
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL, "{status:x}");
        points += 1;
    }
    assert!(points > 150, "{points}");
    assert!(store.usage().unwrap().repairs > 100);
    let info = store.log().info(key("a"), NOW).unwrap().unwrap();
    assert_eq!(info.last.offset.0, seen);
    empties(&store, ["a", "b"].into_iter().map(str::to_owned));
}

/// Does what workers do, for ever.
fn work(store: &Store<PidLock>, ids: u32, seed: u32) {
    let own = Process { pid: std::process::id(), start: 1 };
    // SAFETY: signal 0 only asks whether there is such a process.
    let lives = |process: Process| unsafe { libc::kill(process.pid.cast_signed(), 0) } == 0;
    let slot = store.claim(own, lives).unwrap().slot;
    let mut state = seed | 1;
    let mut random = |below: u32| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state % below
    };
    let mut channels: HashMap<u32, Subscribed> = HashMap::new();
    let mut news = Vec::new();
    loop {
        let nth = random(ids);
        let id = nth.to_string();
        match random(40) {
            0..20 => {
                let len = if random(8) == 0 { random(5000) } else { random(300) };
                let history = if random(6) == 0 { History::OFF } else { History { length: random(20), time: 0 } };
                publish(store, &id, &message(random(u32::MAX), len as usize), history);
            }
            20..26 => {
                let terms = if random(2) == 0 { NAMED } else { TERMS };
                if let Ok(subscribed) = store.log().subscribe(key(&id), slot, Token(nth), terms, NOW) {
                    channels.insert(nth, subscribed);
                }
            }
            26..30 => {
                if let Some(Subscribed { channel, present, .. }) = channels.remove(&nth) {
                    store.log().unsubscribe(channel, slot, present, NOW).unwrap();
                }
            }
            30 => drop(store.log().delete(key(&id), NOW).unwrap()),
            32 => drop(store.presence().of(key(&id)).unwrap()),
            31 => drop(store.tend(NOW, 10).unwrap()),
            _ => {
                news.clear();
                store.log().drain(slot, Budget { messages: 20, octets: 100_000 }, NOW, &mut news).unwrap();
            }
        }
    }
}

#[test]
fn at_any_instruction() {
    const IDS: u32 = 12;
    let (store, lock) = zone(600 << 10);
    let all = || (0..IDS).map(|id| id.to_string());
    let own = Process { pid: std::process::id(), start: 1 };
    let reader = store.claim(own, |_| true).unwrap().slot;
    // This one is published to by everybody, and never deleted.
    store.log().subscribe(key("watched"), reader, Token(900), TERMS, NOW).unwrap();
    let mut seen = 0;
    let start = |seed| Child::start(|| work(&store, IDS, seed));
    let mut bystander = start(1);
    for round in 0..300_u32 {
        let mut victim = start(round.wrapping_mul(0x9e37_79b9));
        // As soon as anything has happened since, and a little later: at another instruction each time.
        let before = store.zone.unlocked().header().unwrap().serial.get();
        while store.zone.unlocked().header().unwrap().serial.get() < before + 3 {
            std::thread::yield_now();
        }
        for _ in 0..round.wrapping_mul(2_654_435_761) % 4096 {
            std::hint::spin_loop();
        }
        let status = victim.kill();
        assert!(libc::WIFSIGNALED(status), "the worker ended by itself: {status:x}");
        lock.release_for(victim.id());
        let published = publish(&store, "watched", &message(round, 20), History { length: 1, time: 0 });
        if round % 10 == 0 {
            store.check().unwrap().unwrap();
            read_everything(&store, all());
        }
        let mut news = Vec::new();
        store.log().drain(reader, ALL, NOW, &mut news).unwrap();
        for (offset, data) in messages(&news, 900) {
            assert_eq!(offset, seen + 1);
            assert!(is_whole(&data));
            seen = offset;
        }
        assert_eq!(seen, published.id.offset.0, "what was acknowledged is delivered");
        if round % 50 == 49 {
            bystander.kill();
            lock.release_for(bystander.id());
            bystander = start(round);
        }
    }
    bystander.kill();
    lock.release_for(bystander.id());
    let usage = store.usage().unwrap();
    check_zone(&store);
    read_everything(&store, all());
    assert!(usage.repairs > 0, "nobody was killed in an update");
    assert_eq!(store.log().info(key("watched"), NOW).unwrap().unwrap().subscribers, 1);
    empties(&store, all().chain(["watched".to_owned()]));
}
