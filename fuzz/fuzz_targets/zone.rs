// SPDX-License-Identifier: Apache-2.0

//! A zone whose octets somebody writes over at any time: what is done with it fails or does not, comes to an end, and stays within the
//! memory; and a zone that was rebuilt is sound again, whatever was in it.
#![no_main]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::ptr::NonNull;

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::channel::lock::Lock;
use ngx_ws_exec::channel::memory::{ALIGN, Region, Word};
use ngx_ws_exec::channel::message::Publication;
use ngx_ws_exec::channel::position::Offset;
use ngx_ws_exec::channel::store::{
    Budget, CELL, Change, Ended, GroupChange, GroupKey, GroupLimits, Handle, History, Input, InputKind, Key, Member,
    Now, Page, Policy, Present, Process, ProgramHandle, Slot, Store, Terms, Token, Wake,
};
use ngx_ws_exec::channel::transport::Transport;
use ngx_ws_exec::ws::MessageKind;

/// Workers that the zone has room for.
const SLOTS: usize = 2;

/// Octets of the zone: about two hundred cells, so that it is full after a few messages.
const LEN: usize = 48 << 10;

const CHANNELS: [&str; 4] =
    ["a", "b", "other", "a-name-that-does-not-fit-into-the-first-cell-of-a-channel-and-goes-on-in-others"];
const GROUPS: [&str; 2] = ["", "group"];
const LIMITS: GroupLimits = GroupLimits { channels: 3, subscribers: 3, messages: 20, bytes: 4_000 };

/// Memory that several regions are over.
struct Memory(NonNull<u8>);

impl Memory {
    const LAYOUT: Layout = match Layout::from_size_align(LEN, ALIGN) {
        Ok(layout) => layout,
        Err(_) => panic!("a size of memory"),
    };

    fn new() -> Self {
        // SAFETY: the layout has a size.
        Memory(NonNull::new(unsafe { alloc_zeroed(Self::LAYOUT) }).expect("memory"))
    }

    fn region(&self) -> Region {
        // SAFETY: the memory is freed by `drop` alone, after every region of it: `run` sees to it. Only regions write there.
        unsafe { Region::lent(self.0, LEN) }.expect("an aligned place")
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout and not freed before.
        unsafe { dealloc(self.0.as_ptr(), Self::LAYOUT) };
    }
}

/// A lock that nobody else has: it is taken once at a time, and given back.
#[derive(Default)]
struct Held(Cell<bool>);

impl Lock for Held {
    fn lock(&self) {
        assert!(!self.0.replace(true), "taken twice");
    }

    fn unlock(&self) {
        assert!(self.0.replace(false), "given back twice");
    }
}

/// A worker that uses the zone.
struct Worker<'s> {
    store: Store<&'s Held>,
    region: Region,
    slot: Slot,
    clock: u64,
    channels: Vec<Handle>,
    members: Vec<Present>,
    programs: Vec<ProgramHandle>,
}

/// Takes numbers from octets.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next(&mut self) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first.into()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.next() % from.len().max(1)).copied()
    }
}

fn key(numbers: &mut Numbers<'_>) -> Key<'static> {
    let number = numbers.next();
    Key::new(GROUPS[number / 4 % 2].as_bytes(), CHANNELS[number % 4].as_bytes()).expect("a short name")
}

fn process(pid: u32) -> Process {
    Process { pid, start: 1 }
}

impl Worker<'_> {
    fn now(&mut self, numbers: &mut Numbers<'_>) -> Now {
        self.clock += [0, 1, 500, 10_000][numbers.next() % 4];
        Now { clock: self.clock, unix: self.clock }
    }

    /// Somebody writes into the memory.
    fn scribble(&self, numbers: &mut Numbers<'_>) {
        let (place, step) = (numbers.next() << 8 | numbers.next(), numbers.next());
        // The words of the header and of the first cells come up as often as all others.
        let words = LEN / 4;
        let word = match step % 4 {
            0 => place % 256,
            1 => words - 1 - place % words,
            _ => place % words,
        };
        let value = match numbers.next() {
            number @ 0..=199 => number as u32,
            200..=229 => numbers.next() as u32 * (CELL / 4) as u32,
            230..=249 => u32::MAX - numbers.next() as u32,
            // What another word is.
            _ => self.region.at::<Word>(numbers.next() * 4 * (CELL / 16)).map_or(1, Word::get),
        };
        self.region.at::<Word>(word * 4).expect("a word of the memory").store_plain(value);
    }

    /// One operation. What fails has found the zone damaged.
    fn operation(&mut self, numbers: &mut Numbers<'_>) {
        let now = self.now(numbers);
        let key = key(numbers);
        let (store, slot) = (&self.store, self.slot);
        let (log, programs, groups) = (store.log(), store.programs(), store.groups());
        match numbers.next() % 24 {
            0..=3 => {
                let length = [0, 10, 100, 3_000][numbers.next() % 4];
                let data = vec![numbers.next() as u8; length];
                let publication =
                    Publication { kind: MessageKind::Binary, content_type: b"a/b", event: b"e", data: &[&data] };
                let history = match numbers.next() % 3 {
                    0 => History::OFF,
                    1 => History { length: 3, time: 1_000 },
                    _ => History { length: 0, time: 0 },
                };
                let _ = log.publish(key, &publication, Policy { history, group: LIMITS }, now);
            }
            4..=6 => {
                let presence: &[u8] =
                    [&b""[..], b"me", b"somebody else with a longer name than that"][numbers.next() % 3];
                let terms =
                    Terms { create: true, max_subscribers: 3, group: LIMITS, presence, transport: Transport::Raw };
                let token = Token(numbers.next() as u32);
                if let Ok(subscribed) = log.subscribe(key, slot, token, terms, now) {
                    self.channels.push(subscribed.channel);
                    self.members.extend(subscribed.present);
                }
            }
            7 => {
                let present = numbers.pick(&self.members);
                if let Some(channel) = numbers.pick(&self.channels) {
                    let _ = log.unsubscribe(channel, slot, present, now);
                }
            }
            8 => {
                if let Some(channel) = numbers.pick(&self.channels) {
                    let (mut out, budget) = (Vec::new(), Budget { messages: numbers.next(), octets: 1 << 16 });
                    let _ = log.read(channel, Offset(numbers.next() as u64), budget, now, &mut out);
                    assert!(out.len() <= budget.messages.max(1));
                    let _ = log.after(channel, numbers.next() as u64);
                }
            }
            9 => {
                let (mut out, budget) = (Vec::new(), Budget { messages: 1 + numbers.next(), octets: 1 << 16 });
                let _ = log.drain(slot, budget, now, &mut out);
                let _ = (log.horizon(slot), log.has_news(slot));
            }
            10 => drop((log.info(key, now), store.usage(), log.identity())),
            11 => drop(log.delete(key, now)),
            12 => drop(store.tend(now, numbers.next())),
            13 => drop((store.presence().of(key), store.presence().list(key, numbers.next()))),
            14 => {
                let member = Member { channel: key, events: b"events", who: b"me" };
                match numbers.next() % 4 {
                    0 => drop(store.presence().come_back(member)),
                    1 => drop(store.presence().expel(key, b"me")),
                    2 => drop(store.presence().take_expelled(slot)),
                    _ => {
                        if let Ok(Some(left)) = store.presence().leave(member, slot) {
                            let _ = store.presence().forget(left, slot);
                        }
                    }
                }
                if let Some(present) = numbers.pick(&self.members) {
                    let _ = store.presence().set_behind(slot, present, numbers.next() as u64);
                    let _ = store.presence().is_expelled(present);
                }
            }
            15 => {
                let group = GroupKey::from(GROUPS[numbers.next() % 2]);
                let (mut out, mut page) = (Vec::new(), Some(Page::default()));
                let mut pages = 0;
                while let Some(at) = page {
                    page = groups.list(group, b"", at, 3, now, &mut out).unwrap_or_default();
                    out.clear();
                    pages += 1;
                    assert!(pages < 10_000, "a list without an end");
                }
            }
            16 => {
                let group = GroupKey::from(GROUPS[numbers.next() % 2]);
                let change =
                    GroupChange { channels: Change::To(2), messages: Change::Location, ..GroupChange::default() };
                let _ = (groups.info(group, LIMITS, now), groups.subscribers(group), groups.limit(group, change, now));
                let (mut from, mut wake) = (Some(0), Wake::default());
                while let Some(at) = from.filter(|_| numbers.0.len().is_multiple_of(8)) {
                    from = groups.delete(group, at, now, &mut wake).unwrap_or_default();
                }
            }
            17..=18 => {
                let found = match numbers.next() % 3 {
                    0 => programs.attach(key, slot, now).ok().flatten(),
                    1 => programs.follow(key, slot, now).ok().flatten(),
                    _ => {
                        let _ = (programs.begin(key, slot, 1_000, now), programs.beginning(key, now));
                        None
                    }
                };
                self.programs.extend(found);
            }
            19..=20 => {
                if let Some(program) = numbers.pick(&self.programs) {
                    let input = Input { kind: InputKind::Size, data: vec![b'x'; numbers.next() * 4] };
                    let mut left = Vec::new();
                    let how = Ended { code: 1000, status: 1, reason: b"it has ended".to_vec() };
                    match numbers.next() % 10 {
                        0 | 1 => drop(programs.claim(program, slot)),
                        2 | 3 => drop(programs.push_input(program, slot, &input, 2_000, now)),
                        4 => drop(programs.read_input(program, slot, 1_000, &mut left)),
                        5 => drop(programs.consume_input(program, slot, numbers.next())),
                        6 => drop(programs.runs(program, slot, 77)),
                        7 => drop((programs.ended(program, slot, &how, now), programs.lost(program, &how, now))),
                        8 => drop((programs.stops(program, slot), programs.left(program, slot, now))),
                        _ => drop(programs.look_at(program, slot, true, 0, now)),
                    }
                    let _ = (programs.has_news(program, slot), programs.take_news(slot));
                }
            }
            21 => drop(programs.leave(slot)),
            22 => {
                // The worker dies, and another one takes its place, or it goes.
                if numbers.next().is_multiple_of(2) {
                    let _ = store.release(slot);
                }
                if let Ok(claimed) = store.claim(process(1 + numbers.next() as u32), |process| process.pid == 9) {
                    self.slot = claimed.slot;
                }
                (self.channels, self.members, self.programs) = Default::default();
            }
            _ => {
                let _ = store.workers();
                // A zone that was rebuilt is sound: of all that was in it that is left which makes sense.
                store.distrust().expect("a header");
                store.usage().expect("a zone that is rebuilt can be used");
                let found = store.check().expect("a header");
                // Names stay until their worker takes them back, also where it was lost how many subscribers they are of.
                assert!(
                    found.as_ref().is_err_and(|what| what.contains("more names than subscribers")) || found == Ok(()),
                    "{found:?}"
                );
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let (memory, lock) = (Memory::new(), Held::default());
    let store = Store::create(memory.region(), &lock, SLOTS, [1, 2]).expect("room for a zone");
    let slot = store.claim(process(9), |_| true).expect("a slot").slot;
    let mut worker = Worker {
        store,
        region: memory.region(),
        slot,
        clock: 1_000,
        channels: Vec::new(),
        members: Vec::new(),
        programs: Vec::new(),
    };
    let mut numbers = Numbers(data);
    while !numbers.0.is_empty() {
        match numbers.next() {
            0..=127 => worker.operation(&mut numbers),
            128..=250 => worker.scribble(&mut numbers),
            // Another process finds the zone.
            _ => {
                if let Ok(store) = Store::attach(memory.region(), &lock) {
                    worker.store = store;
                }
            }
        }
    }
});
