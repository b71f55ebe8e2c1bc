// SPDX-License-Identifier: Apache-2.0

//! A request that waits for messages, as a state machine: a stream gets one after another, a long-poll gets one.
//!
//! Both are ordinary responses, so that they work over every version of HTTP. A poll is a long-poll that does not wait. The
//! response is behind [`Response`], the messages behind [`Source`], and the server behind [`Host`]; nothing here knows
//! nginx, so that every order of messages, client, program, timer and drain can be tried.
//!
//! Whatever happens, one method is called, which returns whether the subscriber goes on; when it does not,
//! [`release`](Subscriber::release) is to be called, and the request is ended as was said.

mod deadlines;
mod host;
#[cfg(any(test, fuzzing))]
pub mod simulation;
mod single;
mod stream;
#[cfg(test)]
mod tests;

use std::mem;
use std::ops::ControlFlow;

pub use self::host::{Host, Response, Source};
use super::client::Lost;
use super::endpoint::HttpStatus;
use super::record::Record;
use super::shared::State;
use crate::channel::fanout::Next;
use crate::channel::message::Message;
use crate::channel::store::Budget;
use crate::channel::streaming::Streaming;
use crate::channel::transport::Transport;
use crate::ledger::OpenSession;

/// How the messages are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Messages come one after another, in a response that goes on.
    Streaming(Streaming),
    /// One message is the whole response, which waits for it; or [several](Settings::several) are.
    LongPoll,
    /// One message is the whole response, or several are, if there is one.
    Poll,
    /// [`Poll`](Self::Poll) of a subrequest that names no position: where others begin with what comes, it gets the newest
    /// message.
    FirstPoll,
}

impl Delivery {
    /// What it is called in the configuration.
    pub fn transport(&self) -> Transport {
        match self {
            Delivery::Streaming(streaming) => streaming.transport(),
            Delivery::LongPoll => Transport::LongPoll,
            Delivery::Poll | Delivery::FirstPoll => Transport::Poll,
        }
    }
}

/// How a subscriber ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriberEnd {
    /// The response is whole, or is as whole as it will be.
    Finished,
    /// The connection is lost, or the response must not look whole.
    Lost,
    /// Nothing was sent: this status is the answer.
    Refused(HttpStatus),
    /// Nothing was sent, and the client may come back soon: 503 with `Retry-After`.
    TryAgain,
}

/// Whether a subscriber goes on after an event.
pub type Flow = ControlFlow<SubscriberEnd>;

/// Something is wrong with the server.
const FAILED: SubscriberEnd = SubscriberEnd::Refused(HttpStatus::INTERNAL);

impl From<Lost> for SubscriberEnd {
    fn from(Lost: Lost) -> Self {
        SubscriberEnd::Lost
    }
}

/// What a request has to do with a run of a program that requests begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunPart {
    /// Nothing: who comes back when the program has ended finds another one.
    #[default]
    None,
    /// The request has begun the run.
    Begins,
    /// The request has found the run.
    Follows,
}

/// What the location says about its subscribers. Times are in milliseconds, 0 for none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// What may be on its way to the client, in octets.
    pub send_limit: usize,
    /// Time in which the client must take something of that.
    pub send_timeout: u64,
    /// Time without a message before the response ends.
    pub idle_timeout: u64,
    /// Silence before a line that says nothing, where the transport has one.
    pub ping_interval: u64,
    /// Time in which the client must take something of what is on its way at the end.
    pub close_timeout: u64,
    /// A poll without a position gets the newest of all messages.
    pub begins_with_newest: bool,
    /// A long-poll or a poll of a client gets all messages that are there, told apart in this way; `None`: it gets one.
    pub several: Option<Streaming>,
    /// What it has to do with a run that a request begins.
    pub run: RunPart,
}

/// How far a request has come, and what only that stage has.
enum SubscriberStage<S> {
    /// The subscriber has no source yet.
    Created,
    /// The program that it shares is being started; nothing was answered yet.
    Starting { source: S },
    /// The subscriber gets what comes. While it is blocked, nothing is asked of the source.
    Waiting { source: S, is_blocked: bool },
    /// The subscriber gets nothing more since then; what is on its way leaves, as long as the client takes some of it in time.
    Closing { since: u64 },
    /// The subscriber has ended or is ending.
    Over,
}

/// What is known of what the system has for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InSystem {
    /// The client had all when that was looked at, and was sent nothing since.
    Nothing,
    /// The client was sent something since, which may have been just now.
    Sent,
    /// The system had something when that was looked at.
    Something,
}

/// A request that waits for messages.
pub struct Subscriber<H: Host> {
    host: H,
    response: H::Response,
    record: H::Record,
    delivery: Delivery,
    settings: Settings,
    stage: SubscriberStage<H::Source>,
    /// When the last message was sent.
    spoke: u64,
    /// When it ends because its worker does.
    drain: Option<u64>,
    /// When what the system has for the client was looked at last, or, if that was nothing, when something was sent after that.
    looked: u64,
    /// What the system had for the client then.
    in_system: InSystem,
    /// Its part in the figures of the location.
    open: Option<OpenSession>,
    /// Messages that were lost before the beginning, which the head of the response is to tell.
    lost: Option<u64>,
}

impl<H: Host> Subscriber<H> {
    /// A subscriber that is given its source by [`attach`](Self::attach).
    pub fn new(host: H, response: H::Response, record: H::Record, delivery: Delivery, settings: Settings) -> Self {
        let now = host.now();
        Subscriber {
            host,
            response,
            record,
            delivery,
            settings,
            stage: SubscriberStage::Created,
            spoke: now,
            drain: None,
            looked: now,
            in_system: InSystem::Nothing,
            open: None,
            lost: None,
        }
    }

    /// The server in which it lives.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// The server in which the subscriber lives, to be changed.
    pub fn host_mut(&mut self) -> &mut H {
        &mut self.host
    }

    /// Whether the subscriber has ended.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, SubscriberStage::Over)
    }

    /// Its subscription has begun: begins to answer, unless a program has to be started first.
    pub fn attach(&mut self, source: H::Source) -> Flow {
        debug_assert!(matches!(self.stage, SubscriberStage::Created), "a subscriber has one source");
        let is_starting = source.program() == Some(State::Starting);
        self.stage = SubscriberStage::Starting { source };
        if is_starting {
            self.host.watch_client();
        } else {
            self.begin()?;
        }
        self.arm();
        Flow::Continue(())
    }

    /// Begins to answer.
    fn begin(&mut self) -> Flow {
        self.stage = match mem::replace(&mut self.stage, SubscriberStage::Created) {
            SubscriberStage::Starting { source } => SubscriberStage::Waiting { source, is_blocked: true },
            other => other,
        };
        if let SubscriberStage::Waiting { source, .. } = &self.stage
            && let Some(State::Running(pid)) = source.program()
        {
            self.record.exec_pid.set(Some(pid));
        }
        if self.settings.run == RunPart::Follows && self.has_all_of_run() {
            return self.end_of_run();
        }
        match self.open() {
            Ok(true) => {}
            Ok(false) => return Flow::Break(SubscriberEnd::Finished),
            Err(end) => return Flow::Break(end),
        }
        let is_poll = matches!(self.delivery, Delivery::Poll | Delivery::FirstPoll);
        self.open = self.host.open_account(!is_poll);
        if is_poll {
            self.answer()?;
            return self.nothing_new();
        }
        self.host.listen();
        // Who has been waiting for a program may have a time already.
        self.drain = self.drain.or_else(|| self.host.late_drain());
        self.unblock();
        Flow::Continue(())
    }

    /// The program may have been started.
    fn started(&mut self) -> Flow {
        let SubscriberStage::Starting { source } = &self.stage else { return Flow::Continue(()) };
        match source.program() {
            Some(State::Starting) => Flow::Continue(()),
            Some(State::Refused(HttpStatus::UNAVAILABLE)) => Flow::Break(SubscriberEnd::TryAgain),
            Some(State::Refused(status)) => Flow::Break(SubscriberEnd::Refused(status)),
            Some(State::Running(_) | State::Ended(_)) | None => self.begin(),
        }
    }

    /// Whether the run has ended, and the client has all of it.
    fn has_all_of_run(&mut self) -> bool {
        let SubscriberStage::Waiting { source, .. } = &mut self.stage else { return false };
        if !matches!(source.program(), Some(State::Ended(_))) {
            return false;
        }
        if matches!(&self.delivery, Delivery::Streaming(streaming) if streaming.has_losses_in_head()) {
            // A look at what is there passes over them.
            self.lost = source.take_losses();
        }
        let next = source.serve(Budget { messages: 1, octets: 1 }, |_| 0);
        matches!(next, Some(Ok(Next::UpToDate))) && self.is_deserted()
    }

    /// Whether the program that it shared has ended, and there is nothing more of it.
    fn is_deserted(&mut self) -> bool {
        let SubscriberStage::Waiting { source, .. } = &mut self.stage else { return false };
        let Some(State::Ended(outcome)) = source.program() else { return false };
        if source.has_news() {
            // The last of what it said may be among them.
            source.look_again();
            return false;
        }
        self.record.exec_status.set(outcome.status);
        true
    }

    /// Sends what can be sent now.
    pub fn pump(&mut self) -> Flow {
        match &self.stage {
            SubscriberStage::Starting { .. } => self.started()?,
            SubscriberStage::Waiting { .. } => match &self.delivery {
                Delivery::Streaming(_) => self.stream()?,
                Delivery::LongPoll | Delivery::Poll | Delivery::FirstPoll => self.answer()?,
            },
            SubscriberStage::Created | SubscriberStage::Closing { .. } | SubscriberStage::Over => {
                return Flow::Continue(());
            }
        }
        self.arm();
        Flow::Continue(())
    }

    /// Ends the request before there was all that it could have waited for: the client comes back and goes on.
    pub fn dismiss(&mut self) -> Flow {
        match (&self.stage, &self.delivery) {
            (SubscriberStage::Created | SubscriberStage::Starting { .. }, _) => Flow::Break(SubscriberEnd::TryAgain),
            (SubscriberStage::Closing { .. } | SubscriberStage::Over, _) => Flow::Continue(()),
            (SubscriberStage::Waiting { .. }, Delivery::Streaming(_)) => self.close(),
            (SubscriberStage::Waiting { .. }, Delivery::LongPoll | Delivery::Poll | Delivery::FirstPoll) => {
                self.time_out()
            }
        }
    }

    /// Ends it at once: its worker leaves.
    pub fn terminate(&mut self) -> Flow {
        self.dismiss()?;
        // What it has been sent, or is to be sent yet, is the server's business now.
        Flow::Break(SubscriberEnd::Finished)
    }

    /// The client takes more.
    pub fn writable(&mut self) -> Flow {
        if let Err(lost) = self.response.send() {
            return Flow::Break(lost.into());
        }
        if self.response.is_empty() {
            match self.stage {
                SubscriberStage::Closing { .. } => return Flow::Break(SubscriberEnd::Finished),
                SubscriberStage::Waiting { is_blocked: true, .. } => self.unblock(),
                SubscriberStage::Created
                | SubscriberStage::Starting { .. }
                | SubscriberStage::Waiting { .. }
                | SubscriberStage::Over => {}
            }
        }
        self.arm();
        Flow::Continue(())
    }

    /// The position that the client can come back with.
    fn position(&self) -> String {
        let SubscriberStage::Waiting { source, .. } = &self.stage else { return String::new() };
        source.position().unwrap_or_default()
    }

    /// Tries again later what cannot be read now.
    fn retry(&mut self) {
        if let SubscriberStage::Waiting { source, .. } = &mut self.stage {
            source.retry();
        }
    }

    fn block(&mut self) {
        if let SubscriberStage::Waiting { source, is_blocked } = &mut self.stage {
            *is_blocked = true;
            source.block();
        }
    }

    fn unblock(&mut self) {
        if let SubscriberStage::Waiting { source, is_blocked } = &mut self.stage {
            *is_blocked = false;
            source.unblock();
        }
    }

    fn count(record: &Record, open: Option<&OpenSession>, message: &Message) {
        let octets = message.data().len();
        record.message_out(octets);
        record.message_id.set(Some(message.id));
        if let Some(open) = open {
            open.figures().sent(1, octets as u64);
        }
    }

    /// No longer subscribed: what is left of the response is on its way.
    fn leave(&mut self) {
        let since = self.host.now();
        drop(mem::replace(&mut self.stage, SubscriberStage::Closing { since }));
    }

    /// Lets go of everything but the memory, of the request above all.
    pub fn release(&mut self) {
        if self.is_over() {
            return;
        }
        let stage = mem::replace(&mut self.stage, SubscriberStage::Over);
        self.host.stop();
        if let Some(open) = self.open.take() {
            open.ended(self.host.now());
        }
        drop(stage);
        self.host.release();
    }
}
