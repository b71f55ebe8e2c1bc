// SPDX-License-Identifier: Apache-2.0

//! A relay of a node of a cluster for tests, which say what its server says.

use std::collections::HashMap;
use std::rc::Rc;

use super::{Channel, Copies, Copy, Relay};
use crate::channel::position::{Epoch, MessageId, Offset};
use crate::channel::store::{Appended, History, Original};
use crate::redis::connection::{Connection, Purpose, Settings};
use crate::redis::envelope::Envelope;
use crate::redis::names::Names;
use crate::redis::resp::Limits;
use crate::redis::script::Script;

/// Copies that only know how far they are and what is kept.
#[derive(Default)]
pub(super) struct Kept {
    pub copies: HashMap<Box<[u8]>, Copy>,
    pub kept: HashMap<Box<[u8]>, bool>,
    pub ready: Vec<usize>,
}

impl Copies for Kept {
    fn look(&mut self, channel: &Channel) -> Copy {
        self.copies.get(&channel.id).cloned().unwrap_or(Copy { epoch: Epoch(0), next: Offset(1), subscribers: 0 })
    }

    fn presence(&mut self, _: &Channel) -> Vec<u8> {
        Vec::new()
    }

    fn group_subscribers(&mut self, _: &Channel) -> u32 {
        0
    }

    fn limit_group(&mut self, _: &Channel, _: Option<u32>) {}

    fn follow(&mut self, _: &Channel, _: Original, _: History) -> bool {
        true
    }

    fn append(&mut self, _: &Channel, _: MessageId, _: u64, _: &Envelope<'_>, _: Option<History>) -> Appended {
        Appended::NoCopy
    }

    fn keep(&mut self, channel: &Channel, compared: Option<u64>) {
        let kept = compared.is_some();
        self.kept.insert(channel.id.clone(), kept);
    }

    fn delete(&mut self, _: &Channel) {}

    fn expel(&mut self, _: &Channel, _: &[u8]) {}

    fn ready(&mut self, slot: usize) {
        self.ready.push(slot);
    }

    fn draw(&mut self) -> u64 {
        7
    }
}

pub(super) struct Listener {
    pub relay: Relay,
    pub connection: Connection,
}

impl Listener {
    pub fn new() -> Self {
        let settings = Settings {
            purpose: Purpose::ClusterNode,
            user: None,
            password: None,
            database: 0,
            timeout: 10_000,
            most_pending: 100,
            limits: Limits::default(),
        };
        let mut connection = Connection::new(Rc::new(settings), 0, 10_000);
        let mut said =
            b"%3\r\n+server\r\n+redis\r\n+version\r\n+7.0.15\r\n+mode\r\n+cluster\r\n$12\r\nrun_id:abc\r\n\r\n"
                .to_vec();
        for script in Script::ALL {
            said.extend_from_slice(format!("$40\r\n{}\r\n", script.digest()).as_bytes());
        }
        connection.take_outgoing();
        connection.receive(&said, 0);
        assert!(connection.next_event().is_some() && connection.is_ready());
        Listener { relay: Relay::new(b"ws:".to_vec(), 0, b"node".to_vec()).sharded(), connection }
    }

    /// Everything that is sent.
    pub fn octets(&mut self, copies: &mut Kept, now: u64) -> String {
        self.relay.on_time(&mut self.connection, copies, now);
        String::from_utf8(self.connection.take_outgoing()).unwrap()
    }

    /// The commands that are sent, without their arguments.
    pub fn sent(&mut self, copies: &mut Kept, now: u64) -> Vec<String> {
        let words = ["ASKING", "SSUBSCRIBE", "SUNSUBSCRIBE", "EVALSHA"];
        let sent = self.octets(copies, now);
        sent.split("\r\n").filter(|word| words.contains(word)).map(str::to_owned).collect()
    }

    pub fn says(&mut self, octets: &[u8], copies: &mut Kept, now: u64) {
        self.connection.receive(octets, now);
        while let Some(event) = self.connection.next_event() {
            self.relay.on_event(event, &mut self.connection, copies, now);
        }
    }
}

pub(super) fn channel(id: &str) -> Channel {
    Channel { group: Box::default(), id: id.as_bytes().into(), history: History::OFF }
}

pub(super) fn names(id: &str) -> Names {
    Names::of(b"ws:", 0, b"", id.as_bytes())
}
