// SPDX-License-Identifier: Apache-2.0

//! A WebSocket whose endpoint is a shared program: it gets what the channel has, and what it sends goes to the program.

use std::collections::VecDeque;

use super::parameters::weight;
use super::{Arrival, Membership, join};
use crate::channel::store::{Input, InputKind};
use crate::conf;
use crate::exec::framing::{Format, WriteError};
use crate::exec::terminal::Size;
use crate::nginx::channel::hub;
use crate::nginx::channel::{Ids, WebSocket};
use crate::nginx::log::Level;
use crate::nginx::program::{backlog, stuck};
use crate::nginx::request::{HeldRequest, Request, try_again};
use crate::nginx::session::{self, SessionRef};
use crate::nginx::status::Status;
use crate::nginx::template::ComplexValue;
use crate::session::endpoint::{self, Ending, Endpoint, HttpStatus, Outlet, Produced, Started};
use crate::session::program::LeftProgram;
use crate::session::shared::{Pushed, State};
use crate::ws::close::CloseCode;
use crate::ws::connection::Data;
use crate::ws::frame::MessageKind;

/// One client of a shared program: its subscription, and what it has sent that the program has not been given yet.
struct SharedProgramClient {
    request: HeldRequest,
    membership: Option<Membership>,
    channel: WebSocket,
    format: Format,
    /// The program runs on a terminal.
    has_terminal: bool,
    /// A message that has begun and not ended.
    unfinished: Vec<u8>,
    /// Messages for which there is no room yet.
    held: VecDeque<Input>,
    held_octets: usize,
    backlog: usize,
    progress: u64,
    /// The program takes no such message.
    refused: bool,
}

/// Begins to connect a session to the shared program of its channel.
///
/// # Errors
///
/// The status to answer.
pub fn start(
    request: Request<'_>,
    session: SessionRef,
    shared: &conf::Shared<ComplexValue>,
) -> Result<Box<dyn Endpoint>, Status> {
    let ids = Ids::of(request, &shared.channel)?;
    let settings = request.settings();
    // SAFETY: the session, which has the endpoint, holds the request.
    let held = unsafe { request.held() };
    let mut client = SharedProgramClient {
        request: held,
        membership: None,
        channel: WebSocket::new(request, session, None, None),
        format: settings.exec_format(),
        has_terminal: settings.exec_pty(),
        unfinished: Vec::new(),
        held: VecDeque::new(),
        held_octets: 0,
        backlog: backlog(settings.max_message_size()),
        progress: 0,
        refused: false,
    };
    // Before the program begins: its first client gets all that it says.
    client.channel.join(&ids)?;
    if !client.channel.is_waiting() {
        client.membership = Some(client.share(&ids, session)?);
    }
    Ok(Box::new(client))
}

impl SharedProgramClient {
    fn note(&self, pid: i32) {
        if let Some(context) = self.request.get().existing_context() {
            context.record.exec_pid.set(Some(pid));
        }
    }

    /// Shares the program of the channel.
    fn share(&self, ids: &Ids<'_>, session: SessionRef) -> Result<Membership, Status> {
        let program = self.request.get().settings().shared_program().ok_or(Status::INTERNAL_SERVER_ERROR)?;
        let request = self.request.get();
        join(request, program, ids, session::listener(session), &Arrival::of_subscriber(request))
    }

    /// Whether a hook has let the client in, and it shares the program now.
    fn admitted(&mut self) -> Started {
        match self.channel.start() {
            Started::Yes => {}
            other @ (Started::NotYet | Started::No(_)) => return other,
        }
        let shares = || {
            let channel = self.request.get().settings().channel().ok_or(Status::INTERNAL_SERVER_ERROR)?;
            let session =
                self.request.get().existing_context().and_then(session::of).ok_or(Status::INTERNAL_SERVER_ERROR)?;
            self.share(&Ids::of(self.request.get(), channel)?, session)
        };
        match shares() {
            Ok(membership) => {
                self.membership = Some(membership);
                Started::Yes
            }
            Err(status) => Started::No(session::refusal(status)),
        }
    }

    /// Gives the program what it takes. Whether anything moved.
    fn push(&mut self) -> bool {
        self.push_by(Membership::push)
    }

    /// The client has gone, and nobody else keeps what it has sent: the zone takes what it can take.
    fn leave_input(&mut self) {
        self.push_by(Membership::push_all);
    }

    fn push_by(&mut self, push: impl Fn(&Membership, &Input) -> Pushed) -> bool {
        let Some(membership) = &self.membership else { return false };
        let mut moved = false;
        while let Some(message) = self.held.front() {
            match push(membership, message) {
                Pushed::Taken => {}
                Pushed::Full => break,
                Pushed::TooLarge => self.refused = true,
            }
            self.held_octets -= weight(message);
            self.progress += message.data.len() as u64 + 1;
            self.held.pop_front();
            moved = true;
        }
        moved
    }

    fn take(&mut self, kind: MessageKind, payload: Vec<u8>) {
        let message = Input { kind: InputKind::Message(kind), data: payload };
        self.held_octets += weight(&message);
        self.held.push_back(message);
    }
}

impl Endpoint for SharedProgramClient {
    fn start(&mut self) -> Started {
        if self.membership.is_none() {
            match self.admitted() {
                Started::Yes => {}
                other @ (Started::NotYet | Started::No(_)) => return other,
            }
        }
        let Some(membership) = &self.membership else { return Started::NotYet };
        match membership.state() {
            State::Starting => Started::NotYet,
            State::Running(pid) => {
                self.note(pid);
                Started::Yes
            }
            State::Refused(HttpStatus::UNAVAILABLE) => Started::No(session::refusal(try_again(self.request.get()))),
            State::Refused(status) => Started::No(status),
            // The program has run, and what it said is there.
            State::Ended(_) => Started::Yes,
        }
    }

    fn accepts(&self) -> bool {
        self.held_octets < self.backlog && self.channel.accepts()
    }

    fn deliver(&mut self, data: &Data<'_>) -> Result<(), Ending> {
        if self.format == Format::Lines && data.kind == MessageKind::Binary {
            let error = WriteError::Binary;
            return Err(Ending { code: error.close_code(), reason: error.to_string() });
        }
        if self.unfinished.try_reserve(data.payload.len()).is_err() {
            return Err(Ending { code: CloseCode::INTERNAL, reason: "no memory for the message".to_owned() });
        }
        self.unfinished.extend_from_slice(data.payload);
        if data.last {
            let message = std::mem::take(&mut self.unfinished);
            if self.channel.takes_heartbeat(data.kind, &message) {
                return Ok(());
            }
            if self.has_terminal
                && let Some(size) = Size::from_message(&message)
            {
                if let Some(membership) = &self.membership {
                    membership.resize(size);
                }
                return Ok(());
            }
            self.take(data.kind, message);
            self.push();
            if self.refused {
                return Err(Ending {
                    code: CloseCode::TOO_BIG,
                    reason: "message does not fit into the channel zone".into(),
                });
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> bool {
        self.push()
    }

    fn produce(&mut self, outlet: &mut Outlet<'_>) -> Produced {
        let produced = self.channel.produce(outlet);
        if produced != Produced::Nothing || self.channel.is_behind() {
            return produced;
        }
        let Some(membership) = &self.membership else { return produced };
        let Some(end) = membership.end() else { return produced };
        if hub::with(|hub| hub.has_news()) == Some(true) {
            // The last of what it said may be among them.
            membership.look_later();
            return produced;
        }
        outlet.record.exec_status.set(end.status);
        Produced::Ended(end.ending)
    }

    fn waits(&self) -> bool {
        !self.held.is_empty()
    }

    fn stuck(&self) -> Ending {
        stuck()
    }

    fn client_gone(&mut self, input: endpoint::Input) -> Option<LeftProgram> {
        self.leave_input();
        if !self.held.is_empty() {
            let count = self.held.len();
            self.request.get().report(
                Level::Warn,
                format_args!("the program does not read: {count} messages of a client that has gone are lost"),
            );
            self.held.clear();
        }
        self.membership = None;
        self.channel.client_gone(input)
    }

    fn progress(&self) -> u64 {
        self.progress + self.channel.progress()
    }
}
