// SPDX-License-Identifier: Apache-2.0

//! The short way for messages whose frames are ready, and shared with other sessions.
//!
//! Most sessions of a channel have nothing else to do when a message comes: nothing is queued, and the socket takes all of
//! it. Then a message costs one system call and touches little memory. Whatever is not like that goes the usual way.

use super::client::{Client, Sent, Sink};
use super::{Host, Session, SessionStage};
use crate::channel::fanout::Batch;
use crate::channel::position::MessageId;
use crate::ledger::Figures;

/// What went out by the short way and is not in the record yet.
#[derive(Debug, Default)]
pub struct Passed {
    messages: u64,
    octets: u64,
    last: Option<MessageId>,
    /// Where it is counted; beside the rest, so that no other memory is needed for it.
    pub(super) figures: Option<Figures>,
}

/// What became of ready-made messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direct {
    /// All octets are sent.
    Sent,
    /// What the client did not take is queued: the session is to be driven as usual.
    Queued,
}

impl<H: Host> Session<H> {
    /// Whether the short way is open. Not for TLS, which keeps pointers to what it was given, nor where somebody writes down
    /// what goes out.
    pub fn takes_directly(&self) -> bool {
        matches!(self.stage, SessionStage::Open { .. })
            && self.recorder.is_none()
            && self.output.is_empty()
            && self.client.is_drained()
            && !self.client.is_tls()
            && self.ws.can_send()
    }

    /// Sends messages in one go; `room` is memory to put several of them together in.
    pub fn send_directly(&mut self, batch: &Batch, room: &mut Vec<u8>) -> Direct {
        let mut sendable = 0;
        let (messages, octets) = (self.passed.messages, self.passed.octets);
        for item in batch.items() {
            if !self.ws.ready_made(item.buffer.is_compressed()) {
                break;
            }
            sendable += 1;
            if let Some(shared) = &item.message {
                self.passed.messages += 1;
                self.passed.octets += shared.message.data().len() as u64;
                self.passed.last = Some(shared.message.id);
            }
        }
        if let Some(figures) = self.passed.figures {
            figures.sent(self.passed.messages - messages, self.passed.octets - octets);
        }
        let items = batch.items().get(..sendable).unwrap_or_default();
        let octets = match items {
            [item] => item.buffer.octets(),
            items => {
                room.clear();
                for item in items {
                    room.extend_from_slice(item.buffer.octets());
                }
                room
            }
        };
        self.deadlines.timers().on_message(self.host.now());
        let sent = match self.client.send(octets) {
            Sent::Octets(count) if count == octets.len() => return Direct::Sent,
            Sent::Octets(count) => count,
            // A connection that is lost is noticed when it is driven.
            Sent::Blocked | Sent::Lost => 0,
        };
        match items {
            [item] => self.output.share_rest(&item.buffer, sent),
            _ => self.output.frames().extend_from_slice(octets.get(sent..).unwrap_or_default()),
        }
        Direct::Queued
    }

    /// Tells the record what went out.
    pub(super) fn settle(&mut self) {
        if self.passed.messages == 0 {
            return;
        }
        let figures = self.passed.figures;
        let Passed { messages, octets, last, .. } =
            std::mem::replace(&mut self.passed, Passed { figures, ..Passed::default() });
        if figures.is_some() {
            self.account.counted(messages, octets);
        }
        self.record.sent(messages, octets);
        self.record.message_id.set(last.or(self.record.message_id.get()));
    }
}
