// SPDX-License-Identifier: Apache-2.0

//! What an exchange does in one turn, and what it waits for.

use std::mem;

use super::{
    CgiEnd, Ending, Exchange, Flow, Host, LAST_WORD, Output, Piece, Program, Request, Response, Stage, UNWANTED,
};
use crate::exec::cgi::Head;
use crate::exec::spawner::ExitStatus;
use crate::session::buffers;
use crate::session::endpoint::HttpStatus;
use crate::session::host::Severity;

/// Pieces of a body, and reads of an output, after which others get their turn.
const PIECES: u32 = 64;
const READS: u32 = 8;

/// A request that waits for nothing that has a time keeps a timer all the same, and with it a worker that is told to go.
const NOTHING: u64 = 3_600_000;

/// What the time is up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Header,
    Input,
    Send,
    Redirect,
    Unwanted,
    LastWord,
}

impl<H: Host> Exchange<H> {
    /// Passes on what can be passed on now.
    pub fn pump(&mut self) -> Flow {
        self.program.pass_errors();
        if !matches!(self.stage, Stage::Starting | Stage::Over) {
            self.feed()?;
            self.relay()?;
            self.send()?;
            self.conclude()?;
            self.account.settle(&self.record);
        }
        self.expire()?;
        self.arm();
        Flow::Continue(())
    }

    /// What was added to the response, if there is one yet.
    fn send(&mut self) -> Flow {
        if !self.is_answered() {
            return Flow::Continue(());
        }
        match self.response.send() {
            Ok(()) => Flow::Continue(()),
            Err(lost) => Flow::Break(lost.into()),
        }
    }

    /// The body of the request, to the program as long as it reads.
    fn feed(&mut self) -> Flow {
        self.program.flush();
        let mut pieces = 0;
        while !self.is_received && !self.is_full() {
            if pieces == PIECES {
                self.host.post_turn();
                break;
            }
            pieces += 1;
            let is_wanted = self.program.reads();
            let queue = if is_wanted { self.program.queue() } else { &mut self.unwanted };
            match self.request.receive(queue) {
                Piece::Octets(count) => {
                    if let (Stage::Head { since, .. }, true) = (&mut self.stage, is_wanted) {
                        *since = self.host.now();
                    }
                    self.record.data_in(count, false);
                    self.unwanted.clear();
                    self.program.flush();
                }
                Piece::Blocked => break,
                Piece::End => {
                    self.is_received = true;
                    self.request.watch_client();
                }
                Piece::Refused(status) => return Flow::Break(self.failed(status)),
            }
        }
        if self.is_received && self.program.reads() && self.program.waiting() == 0 {
            self.program.end_input();
        }
        Flow::Continue(())
    }

    /// The output of the program, to the client as long as it takes it.
    fn relay(&mut self) -> Flow {
        let mut buffer = buffers::take_reading();
        let flow = self.read(&mut buffer);
        buffers::put_reading(buffer);
        flow
    }

    fn read(&mut self, buffer: &mut [u8]) -> Flow {
        for _ in 0..READS {
            match self.stage {
                Stage::Redirect { until: None, .. } | Stage::Ended { .. } | Stage::Starting | Stage::Over => {
                    return Flow::Continue(());
                }
                Stage::Body { .. } if self.response.cost() >= self.settings.send_limit => {
                    self.send()?;
                    if self.response.cost() >= self.settings.send_limit {
                        self.program.pause();
                        return Flow::Continue(());
                    }
                }
                Stage::Head { .. } | Stage::Redirect { .. } | Stage::Body { .. } | Stage::Unwanted { .. } => {}
            }
            match self.program.read(buffer) {
                Output::Octets(count) => self.take(buffer.get(..count).unwrap_or_default())?,
                Output::Blocked => return Flow::Continue(()),
                Output::End => self.ended(),
            }
        }
        self.host.post_turn();
        Flow::Continue(())
    }

    /// What the program has written.
    fn take(&mut self, octets: &[u8]) -> Flow {
        let Stage::Head { reader, .. } = &mut self.stage else { return self.body(octets) };
        match reader.take(octets) {
            Ok(None) => Flow::Continue(()),
            Ok(Some((head, length))) => {
                self.head(&head)?;
                self.body(octets.get(length..).unwrap_or_default())
            }
            Err(error) => {
                self.host.report(Severity::Error, format_args!("the program wrote {error}"));
                Flow::Break(CgiEnd::Refused(HttpStatus::BAD_GATEWAY))
            }
        }
    }

    /// The header is complete.
    fn head(&mut self, head: &Head) -> Flow {
        if let Some(to) = head.local_redirect() {
            let until = self.host.now().saturating_add(UNWANTED);
            self.stage = Stage::Redirect { to: to.to_vec(), until: Some(until) };
            // The rest of the body is for nobody.
            self.program.end_input();
            return Flow::Continue(());
        }
        let has_body = match self.response.begin(head) {
            Ok(has_body) => has_body,
            Err(end) => return Flow::Break(end),
        };
        let open = self.host.open_account();
        self.account.open(open);
        match has_body {
            true if head.content_length() == Some(0) => self.complete(),
            true => self.stage = Stage::Body { left: head.content_length() },
            false => self.ignore(),
        }
        Flow::Continue(())
    }

    /// The response is whole, though the program may still write.
    fn complete(&mut self) {
        self.response.push(Vec::new(), true);
        self.ignore();
    }

    /// Nobody gets what the program writes from now on. It may write it all the same.
    fn ignore(&mut self) {
        self.stage = Stage::Unwanted { since: self.host.now() };
    }

    /// A piece of the body of the response.
    fn body(&mut self, octets: &[u8]) -> Flow {
        let Stage::Body { left } = &mut self.stage else { return Flow::Continue(()) };
        let wanted = match left {
            None => octets,
            Some(left) => {
                let wanted = octets.get(..usize::try_from(*left).unwrap_or(usize::MAX)).unwrap_or(octets);
                *left -= wanted.len() as u64;
                wanted
            }
        };
        let is_complete = *left == Some(0);
        if !wanted.is_empty() {
            self.record.octets_out(wanted.len());
            self.response.push(wanted.to_vec(), false);
        }
        if wanted.len() < octets.len() {
            self.host.report(Severity::Error, format_args!("the program wrote more than its Content-Length"));
        }
        if is_complete {
            self.complete();
        }
        Flow::Continue(())
    }

    /// The program will write nothing any more.
    fn ended(&mut self) {
        let ending = match &mut self.stage {
            Stage::Redirect { until, .. } => {
                *until = None;
                return;
            }
            Stage::Head { reader, .. } => Ending::WithoutHead { is_empty: reader.is_empty() },
            Stage::Body { left: Some(left) } => Ending::Short(*left),
            Stage::Body { left: None } => Ending::Open,
            Stage::Unwanted { .. } => Ending::Complete,
            Stage::Starting | Stage::Ended { .. } | Stage::Over => return,
        };
        self.stage = Stage::Ended { ending, until: self.host.now().saturating_add(LAST_WORD) };
    }

    /// Ends the exchange, if there is nothing left to wait for.
    fn conclude(&mut self) -> Flow {
        let status = self.program.status();
        match &mut self.stage {
            Stage::Redirect { to, until: None } if self.is_received => Flow::Break(CgiEnd::Redirect(mem::take(to))),
            Stage::Ended { ending, .. } if status.is_some() => {
                let ending = *ending;
                self.end(ending, status)
            }
            _ => Flow::Continue(()),
        }
    }

    /// The last word of the program has been heard, or was waited for in vain.
    fn end(&mut self, ending: Ending, status: Option<ExitStatus>) -> Flow {
        self.record.exec_status.set(status);
        self.program.pass_errors();
        match ending {
            Ending::WithoutHead { is_empty } => {
                let what = if is_empty { "nothing" } else { "no complete header" };
                self.host.report(Severity::Error, format_args!("the program wrote {what}"));
                Flow::Break(CgiEnd::Refused(HttpStatus::BAD_GATEWAY))
            }
            Ending::Short(left) => {
                let text = format_args!("the program wrote {left} octets less than its Content-Length");
                self.host.report(Severity::Error, text);
                Flow::Break(CgiEnd::Lost)
            }
            Ending::Open => {
                if let Some(ExitStatus::Signal(signal)) = status {
                    // The client is not to take for the whole what is cut short.
                    let text =
                        format_args!("the program was killed by signal {signal} before its response was complete");
                    self.host.report(Severity::Error, text);
                    return Flow::Break(CgiEnd::Lost);
                }
                self.response.push(Vec::new(), true);
                self.send()?;
                Flow::Break(CgiEnd::Finished)
            }
            Ending::Complete => Flow::Break(CgiEnd::Finished),
        }
    }

    /// Whether the program waits for the client to send more of the body: how long that may take is decided where it is received.
    fn waits_for_body(&self) -> bool {
        !self.is_received && self.program.reads() && !self.is_full()
    }

    /// Everything that has a time, in the order in which it is looked at.
    fn deadlines(&self) -> [Option<(u64, Due)>; 3] {
        let settings = &self.settings;
        let after = |begin: Option<u64>, time: u64| begin.filter(|_| time != 0).map(|begin| begin.saturating_add(time));
        let stage = match &self.stage {
            Stage::Head { .. } if self.waits_for_body() => None,
            Stage::Head { since, .. } => {
                // What is on its way to the program counts as sent when it is in the pipe.
                let since = (*since).max(self.program.last_taken());
                after(Some(since), settings.header_timeout).map(|at| (at, Due::Header))
            }
            Stage::Redirect { until, .. } => until.map(|until| (until, Due::Redirect)),
            Stage::Unwanted { since } => Some((since.saturating_add(LAST_WORD), Due::Unwanted)),
            Stage::Ended { until, .. } => Some((*until, Due::LastWord)),
            Stage::Starting | Stage::Body { .. } | Stage::Over => None,
        };
        // A program that answers without reading everything does as it likes.
        let waits = matches!(self.stage, Stage::Head { .. }) && self.program.reads() && self.program.waiting() > 0;
        let input = after(waits.then(|| self.program.last_taken()), settings.input_timeout);
        let send = after(self.response.stuck_since().map(|since| since.max(self.took)), settings.send_timeout);
        [stage, input.map(|at| (at, Due::Input)), send.map(|at| (at, Due::Send))]
    }

    /// Sets the timer for the next of them.
    pub(super) fn arm(&mut self) {
        let now = self.host.now();
        let next = self.deadlines().into_iter().flatten().map(|(at, _)| at).min().unwrap_or(now + NOTHING);
        self.host.set_timer(next.saturating_sub(now).max(1));
    }

    /// Acts on what is due.
    fn expire(&mut self) -> Flow {
        let now = self.host.now();
        let due = self.deadlines().into_iter().flatten().find(|(at, _)| *at <= now).map(|(_, due)| due);
        match due {
            None => Flow::Continue(()),
            Some(Due::Header) => {
                let reason = "the program has not written the header of its response in time (websocket_cgi_timeout)";
                self.host.report(Severity::Error, format_args!("{reason}"));
                Flow::Break(CgiEnd::Refused(HttpStatus::GATEWAY_TIME_OUT))
            }
            Some(Due::Input) => {
                let reason = "the program does not read the body of the request (websocket_exec_send_timeout)";
                self.host.report(Severity::Error, format_args!("{reason}"));
                Flow::Break(CgiEnd::Refused(HttpStatus::GATEWAY_TIME_OUT))
            }
            // The worker can write again only when the system has much less.
            Some(Due::Send) if self.response.look().taken => {
                self.took = now;
                Flow::Continue(())
            }
            Some(Due::Send) => {
                self.host.report(Severity::Info, format_args!("the client accepted nothing in time"));
                Flow::Break(CgiEnd::Lost)
            }
            Some(Due::Redirect) => {
                if let Stage::Redirect { until, .. } = &mut self.stage {
                    *until = None;
                }
                self.program.pause();
                self.conclude()
            }
            Some(Due::Unwanted) => Flow::Break(CgiEnd::Finished),
            Some(Due::LastWord) => match self.stage {
                Stage::Ended { ending, .. } => self.end(ending, None),
                _ => Flow::Continue(()),
            },
        }
    }
}
