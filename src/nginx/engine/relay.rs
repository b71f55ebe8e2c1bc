// SPDX-License-Identifier: Apache-2.0

//! What this node listens to: the relay if this worker has it, and whom it is asked for by the others.
//!
//! The relay is claimed in the zone like a shared program, and asked for channels by its input. A copy that it keeps carries its number;
//! when it goes, its copies are nobody's until the next one has compared them.
//!
//! A worker that was told to go leaves the relay to one that stays. Where there is none, since nginx quits, or the configuration has
//! another zone or not this engine any more, it listens for those who stay connected, until it ends or somebody comes who stays.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::rc::Rc;

use super::address::Host;
use super::listeners::Listeners;
use super::servers::Servers;
use super::{Failed, Settings};
use crate::channel::position::{Epoch, Lineage, Offset};
use crate::channel::store::{
    CopyFound, History, Input, InputKind, Key, LeftInput, Original, Owner, ProgramHandle, ProgramPhase,
};
use crate::ledger::engines::Figures;
use crate::nginx::channel::hub;
use crate::nginx::process::lives;
use crate::nginx::random;
use crate::nginx::timer::{Handler, now};
use crate::redis::relay::Channel;
use crate::ws::frame::MessageKind;

/// Octets of requests for channels that may wait for the relay.
const MOST_INPUT: u64 = 4 << 20;

/// Requests that are read at once.
const INPUT: usize = 64 << 10;

/// Openings that are looked at in one turn of the event loop.
const OPENINGS: usize = 64;

/// Who waits for channels.
type Opened = Box<dyn FnOnce(Result<(), Failed>)>;

/// Group and id of a channel.
type Name = (Box<[u8]>, Box<[u8]>);

/// A subscription that waits for its channels.
struct Opening {
    /// Channels that are not there yet.
    missing: Vec<Name>,
    /// What is to be kept of them here as long as nobody has published.
    history: History,
    /// When it asked for them to be compared before; 0: they need not be.
    since: u64,
    /// The relay that was asked for them; 0: none was.
    asked: u64,
    deadline: u64,
    done: Opened,
}

/// A worker's part in what its node listens to: its requests to the relay, and the relay itself where this worker has it.
pub struct Node {
    settings: Rc<Settings>,
    handler: Handler,
    owner: *mut c_void,
    figures: Option<Figures>,
    handle: Option<ProgramHandle>,
    run: u32,
    /// The relay, while this worker has it.
    own: Option<Listeners>,
    opening: VecDeque<Opening>,
    /// Openings that have still to be looked at since something may have happened to them.
    unseen: usize,
    leaving: bool,
    /// The server to listen to; none while that is not known.
    host: Option<Rc<Host>>,
    /// The relay that was seen last, here or in another worker; 0: none yet.
    seen: u64,
    /// Another one was seen since that was last asked: it may listen to another server than before.
    renewed: bool,
}

impl Node {
    /// A node that listens to nothing yet. `handler` is called with the `owner` of its events.
    pub fn new(settings: Rc<Settings>, figures: Option<Figures>, handler: Handler, owner: *mut c_void) -> Self {
        Node {
            figures,
            settings,
            handler,
            owner,
            handle: None,
            run: 0,
            own: None,
            opening: VecDeque::new(),
            unseen: 0,
            leaving: false,
            host: None,
            seen: 0,
            renewed: false,
        }
    }

    /// From now on this server is listened to.
    pub fn aim(&mut self, host: &Rc<Host>) {
        self.host = Some(Rc::clone(host));
        if let Some(own) = &mut self.own {
            own.aim(host);
        }
    }

    /// Whether the copies of these channels have to be compared for a client whose position names these epochs: one of them that no copy
    /// has may be older than that of a copy, or one that this node has not heard of yet.
    pub fn must_compare(&self, keys: &[Key<'_>], known: &[Epoch]) -> bool {
        if known.is_empty() {
            return false;
        }
        let epochs: Vec<Epoch> = keys
            .iter()
            .filter_map(|key| hub::with(|hub| hub.store.copies().state(*key).ok().flatten()).flatten())
            .map(|copy| copy.epoch)
            .collect();
        known.iter().any(|epoch| !epochs.contains(epoch))
    }

    /// Whether a copy of this channel is here and complete.
    pub fn has(&mut self, key: Key<'_>) -> bool {
        let relay = self.current_relay();
        relay != 0 && is_complete(self.settings.space, key.group(), key.id(), relay, 0)
    }

    /// Waits for channels, until they were compared since then where that is asked for.
    pub fn open(&mut self, keys: &[Key<'_>], history: History, compare: bool, done: Opened) {
        let deadline = now() + self.settings.timeout;
        let missing = keys.iter().map(|key| (key.group().into(), key.id().into())).collect();
        let mut opening =
            Opening { missing, history, since: if compare { now() } else { 0 }, asked: 0, deadline, done };
        self.attach();
        let relay = self.current_relay();
        self.ask(&mut opening, relay);
        self.opening.push_back(opening);
        self.unseen = self.opening.len();
    }

    /// Asks the relay, whether it is here or in another worker, for what an opening waits for.
    fn ask(&mut self, opening: &mut Opening, relay: u64) {
        let Some(slot) = hub::with(|hub| hub.slot.number()) else { return };
        let space = self.settings.space;
        let mut taken = relay != 0;
        for (group, id) in &opening.missing {
            let Some(key) = Key::in_space(space, group, id) else { continue };
            let state = hub::with(|hub| hub.store.copies().state(key).ok().flatten()).flatten();
            let expected = state.map_or(0, |state| state.subscribers) + 1;
            if let Some(own) = &mut self.own {
                let channel = Channel { group: group.clone(), id: id.clone(), history: opening.history };
                own.open(channel, Some(slot), expected, opening.since);
            } else if let Some(handle) = self.handle.filter(|_| relay != 0) {
                let data = encode(slot, opening.history, expected, opening.since, key);
                let request = Input { kind: InputKind::Message(MessageKind::Binary), data };
                // What a full input does not take is asked for again.
                taken &= hub::with(|hub| hub.push_input(handle, &request, MOST_INPUT)) == Some(Ok(()));
            }
        }
        opening.asked = if taken { relay } else { 0 };
    }

    /// Finds the place of the relay in the zone.
    fn attach(&mut self) {
        if self.handle.is_some() {
            return;
        }
        let space = self.settings.space;
        self.handle = hub::with(|hub| {
            let key = Key::in_space(space, b"", b"")?;
            let none = Original { epoch: Epoch(1), oldest: Offset(1), lineage: Lineage::default() };
            hub.store.copies().follow(key, none, History::OFF, hub::time()).ok()?;
            hub.attach_program(key).ok()?
        })
        .flatten();
    }

    /// The worker has begun, a second has passed, or something has happened to the relay: looks whether there is one, and becomes it if
    /// there is none.
    pub fn tick(&mut self) {
        self.attach();
        let Some(handle) = self.handle else { return };
        let view = hub::with(|hub| hub.look_at_program(handle, true, self.run));
        match view {
            Some(Ok(Some(view))) => {
                self.run = view.run;
                match view.owner {
                    // The zone prefers those that stay.
                    Owner::Nobody => self.claim(handle),
                    Owner::Own if self.leaving && view.successors => self.give_up(),
                    Owner::Other(process) if !lives(process) => {
                        hub::with(|hub| hub.release_dead(process));
                    }
                    Owner::Own | Owner::Other(_) => {}
                }
            }
            Some(Ok(None)) => {
                // The zone had no room for it, or another worker was the last one.
                self.handle = None;
                self.own = None;
            }
            Some(Err(_)) | None => {}
        }
        self.ask_again();
        self.unseen = self.opening.len();
    }

    /// Asks for what was asked of no relay, or of one that is not there any more.
    fn ask_again(&mut self) {
        let relay = self.current_relay();
        for mut opening in std::mem::take(&mut self.opening) {
            if opening.asked != relay {
                self.ask(&mut opening, relay);
            }
            self.opening.push_back(opening);
        }
    }

    fn claim(&mut self, handle: ProgramHandle) {
        if hub::with(|hub| hub.claim_program(handle)) != Some(true) {
            return;
        }
        let number = (random::number() as u32).max(1);
        // The next relay of the node for this engine has the same name: what this one has announced is not counted beside it. Another
        // engine of the node, which may be the same server by another URL, has another name.
        let Some(Ok(identity)) = hub::with(|hub| hub.store.identity()) else { return };
        let name = format!("{:016x}", identity ^ self.settings.space).into_bytes();
        let mut own = Listeners::new(&self.settings, self.figures, self.handler, self.owner, number, name);
        if let Some(host) = &self.host {
            own.aim(host);
        }
        hub::with(|hub| hub.program_runs(handle, number));
        // What the node has subscribers of.
        let mut found: Vec<CopyFound> = Vec::new();
        let mut at = Some(0);
        while let Some(from) = at {
            let step = hub::with(|hub| hub.store.copies().find(self.settings.space, from, &mut found));
            at = step.and_then(Result::ok).flatten();
        }
        for copy in found.into_iter().filter(|copy| copy.subscribers > 0 && !copy.id.is_empty()) {
            let channel = Channel { group: copy.group.into(), id: copy.id.into(), history: copy.history };
            own.open(channel, None, copy.subscribers, 0);
        }
        self.own = Some(own);
    }

    /// Another worker is to listen, if there is one that stays.
    pub fn leave(&mut self) {
        self.leaving = true;
        self.tick();
    }

    /// Another worker is to listen.
    pub fn give_up(&mut self) {
        if let (Some(handle), Some(own)) = (self.handle, self.own.take()) {
            own.leave();
            hub::with(|hub| hub.program_left(handle));
        }
    }

    /// Does what there is to do. Those are returned that need not wait any more.
    pub fn advance(&mut self, servers: &mut Servers) -> Vec<Box<dyn FnOnce()>> {
        if let Servers::One(one) = servers
            && let Some(host) = one.take_moved()
        {
            self.aim(&host);
        }
        self.read_input();
        self.listen(servers);
        let ready = self.opened();
        if let Servers::One(one) = servers
            && std::mem::take(&mut self.renewed)
        {
            one.connect_anew();
        }
        ready
    }

    /// Takes what other workers want to listen to.
    fn read_input(&mut self) {
        let (Some(handle), Some(own)) = (self.handle, &mut self.own) else { return };
        let mut requests: Vec<LeftInput> = Vec::new();
        hub::with(|hub| hub.read_input(handle, INPUT, &mut requests));
        if requests.is_empty() {
            return;
        }
        hub::with(|hub| hub.consume_input(handle, requests.len()));
        for request in &requests {
            if let Some((slot, expected, since, channel)) = decode(&request.input.data) {
                own.open(channel, Some(slot), expected, since);
            }
        }
        own.post();
    }

    fn listen(&mut self, servers: &mut Servers) {
        let Some(own) = &mut self.own else { return };
        let report = own.advance(servers);
        if report.is_there {
            servers.trust();
        }
        if report.ended {
            servers.doubt();
        }
        if report.is_another_server
            && let Some(handle) = self.handle
        {
            // Another number: all workers see it, and connect anew.
            let number = own.renumber();
            hub::with(|hub| hub.program_runs(handle, number));
        }
    }

    /// Something may have happened to what is waited for, or to the relay: where it listens to another server, what this worker is
    /// asked to publish goes there at once, too, and where it has left, this worker may be the next one.
    pub fn look_again(&mut self) {
        self.unseen = self.opening.len();
        if self.handle.is_some_and(|handle| hub::with(|hub| hub.has_program_news(handle)) == Some(true)) {
            self.tick();
            self.current_relay();
        }
    }

    /// Looks at some of the openings: whether their copies are complete, or whether it is too late. Each look takes the lock of the
    /// zone, and others are to have their turn.
    fn opened(&mut self) -> Vec<Box<dyn FnOnce()>> {
        let mut ready: Vec<Box<dyn FnOnce()>> = Vec::new();
        if self.unseen == 0 {
            return ready;
        }
        let relay = self.current_relay();
        let space = self.settings.space;
        for _ in 0..self.unseen.min(OPENINGS) {
            self.unseen -= 1;
            let Some(mut opening) = self.opening.pop_front() else { break };
            if relay != 0 {
                opening.missing.retain(|(group, id)| !is_complete(space, group, id, relay, opening.since));
            }
            if opening.missing.is_empty() {
                ready.push(Box::new(move || (opening.done)(Ok(()))));
            } else if opening.deadline <= now() {
                ready.push(Box::new(move || (opening.done)(Err(Failed::Unavailable))));
            } else {
                self.opening.push_back(opening);
            }
        }
        self.unseen = self.unseen.min(self.opening.len());
        ready
    }

    /// Whether somebody waits for channels.
    pub fn is_awaited(&self) -> bool {
        !self.opening.is_empty()
    }

    /// Whether there is more to look at than was looked at.
    pub fn has_more(&self) -> bool {
        self.unseen > 0
    }

    /// The number of the relay that runs; 0 if none does.
    fn current_relay(&mut self) -> u64 {
        let number = self.find_relay();
        if number != 0 {
            let before = std::mem::replace(&mut self.seen, number);
            self.renewed |= before != 0 && before != number;
        }
        number
    }

    fn find_relay(&self) -> u64 {
        if let Some(own) = &self.own {
            return own.number().into();
        }
        let Some(handle) = self.handle else { return 0 };
        let view = hub::with(|hub| hub.look_at_program(handle, true, self.run));
        match view {
            Some(Ok(Some(view))) => match (view.owner, view.phase) {
                (Owner::Other(_), ProgramPhase::Running(number)) => number.into(),
                _ => 0,
            },
            _ => 0,
        }
    }
}

/// Whether the copy of a channel is complete.
fn is_complete(space: u64, group: &[u8], id: &[u8], relay: u64, since: u64) -> bool {
    let Some(key) = Key::in_space(space, group, id) else { return true };
    let state = hub::with(|hub| hub.store.copies().state(key));
    relay != 0 && matches!(state, Some(Ok(Some(state))) if u64::from(state.relay) == relay && state.compared >= since)
}

/// A request to the relay: the slot of the worker, what is kept, how many subscribers there will be, when it is to be compared, and the
/// channel.
fn encode(slot: usize, history: History, expected: u32, since: u64, key: Key<'_>) -> Vec<u8> {
    let mut request = Vec::with_capacity(36 + key.group().len() + key.id().len());
    request.extend_from_slice(&(slot as u32).to_ne_bytes());
    request.extend_from_slice(&history.length.to_ne_bytes());
    request.extend_from_slice(&history.time.to_ne_bytes());
    request.extend_from_slice(&expected.to_ne_bytes());
    request.extend_from_slice(&since.to_ne_bytes());
    request.extend_from_slice(&(key.group().len() as u32).to_ne_bytes());
    request.extend_from_slice(key.group());
    request.extend_from_slice(key.id());
    request
}

fn decode(request: &[u8]) -> Option<(usize, u32, u64, Channel)> {
    let (slot, rest) = request.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (time, rest) = rest.split_first_chunk::<8>()?;
    let (expected, rest) = rest.split_first_chunk::<4>()?;
    let (since, rest) = rest.split_first_chunk::<8>()?;
    let (group_len, rest) = rest.split_first_chunk::<4>()?;
    let (group, id) = rest.split_at_checked(u32::from_ne_bytes(*group_len) as usize)?;
    let history = History { length: u32::from_ne_bytes(*length), time: u64::from_ne_bytes(*time) };
    let channel = Channel { group: group.into(), id: id.into(), history };
    let (slot, expected) = (u32::from_ne_bytes(*slot) as usize, u32::from_ne_bytes(*expected));
    Some((slot, expected, u64::from_ne_bytes(*since), channel))
}
