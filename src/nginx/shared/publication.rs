// SPDX-License-Identifier: Apache-2.0

//! What a shared program says, on its way to its channel.

use std::cell::Cell;
use std::rc::Rc;

use super::parameters::Parameters;
use super::report;
use crate::channel::backend::{Answer, Failure};
use crate::channel::message::{self, OCTET_STREAM};
use crate::channel::store::PublishError;
use crate::exec::framing::{FramingError, Output, Reader};
use crate::nginx::log::Level;
use crate::nginx::program::StderrReader;
use crate::session::endpoint::Ending;
use crate::ws::close::CloseCode;
use crate::ws::frame::MessageKind;

/// What it says, on its way to the channel.
#[derive(Default)]
pub struct Publication {
    /// A message that has begun and not ended.
    unfinished: Option<(MessageKind, Vec<u8>)>,
    /// The last message was refused, and that is in the log.
    refusing: Rc<Cell<bool>>,
}

impl Publication {
    /// Publishes at most so many messages. How many of the octets were looked at.
    ///
    /// # Errors
    ///
    /// How the program has ended its clients, or what it has done wrong.
    pub fn pass_on(
        &mut self,
        reader: &mut Reader,
        octets: &[u8],
        messages: &mut usize,
        parameters: &Parameters,
    ) -> Result<usize, Ending> {
        let mut looked = 0;
        while *messages > 0 {
            let rest = octets.get(looked..).unwrap_or_default();
            match reader.next(rest) {
                Ok((consumed, output)) => {
                    looked += consumed;
                    match output {
                        Some(output) => self.put(output, parameters)?,
                        None => return Ok(octets.len()),
                    }
                    *messages -= 1;
                }
                Err(error) => return Err(misframed(error, parameters)),
            }
        }
        Ok(looked)
    }

    /// Publishes a message, or keeps a piece of one.
    ///
    /// # Errors
    ///
    /// As with [`pass_on`](Self::pass_on).
    pub fn put(&mut self, output: Output<'_>, parameters: &Parameters) -> Result<(), Ending> {
        let (kind, payload, last) = match output {
            Output::Piece { kind, payload, last } => (kind, payload, last),
            Output::Close { code, reason } => return Err(Ending { code, reason: reason.to_owned() }),
            // It serves all clients, and none of the requests that are logged is its own.
            Output::Note { .. } => return Ok(()),
        };
        let begun = self.unfinished.as_ref().map_or(0, |(_, begun)| begun.len());
        let most = parameters.max_message_size;
        if most != 0 && (begun + payload.len()) as u64 > most {
            report(
                Level::Warn,
                format_args!("{}: a message of more than {most} octets (websocket_max_message_size)", parameters.name),
            );
            return Err(Ending {
                code: CloseCode::TOO_BIG,
                reason: "the program wrote a message that is too large".into(),
            });
        }
        if last && begun == 0 {
            self.unfinished = None;
            self.publish(kind, payload, parameters);
            return Ok(());
        }
        let (kind, message) = self.unfinished.get_or_insert((kind, Vec::new()));
        if message.try_reserve(payload.len()).is_err() {
            return Err(no_memory());
        }
        message.extend_from_slice(payload);
        if last {
            let (kind, message) = (*kind, std::mem::take(message));
            self.unfinished = None;
            self.publish(kind, &message, parameters);
        }
        Ok(())
    }

    /// Publishes a message. One that the channel does not take is dropped.
    pub fn publish(&mut self, kind: MessageKind, message: &[u8], parameters: &Parameters) {
        let content_type = match kind {
            MessageKind::Text => b"",
            MessageKind::Binary => OCTET_STREAM,
        };
        let publication = message::Publication { kind, content_type, event: b"", data: &[message] };
        let publish = || parameters.publisher.publish(&publication);
        let answer = match publish() {
            // A damaged zone is repaired by the second attempt.
            Answer::Now(Err(Failure::Own(PublishError::Corrupt))) => publish(),
            answer => answer,
        };
        match answer {
            Answer::Now(Ok(_)) => self.refusing.set(false),
            Answer::Now(Err(failure)) => lost(&self.refusing, &parameters.name, &failure),
            Answer::Later(pending) => {
                let (refusing, name) = (Rc::clone(&self.refusing), parameters.name.clone());
                pending.then(move |outcome| match outcome {
                    Ok(_) => refusing.set(false),
                    Err(failure) => lost(&refusing, &name, &failure),
                });
            }
        }
    }
}

/// Takes the lines of standard error.
pub struct Sink<'a> {
    pub output: &'a mut Publication,
    pub parameters: &'a Parameters,
}

impl StderrReader for Sink<'_> {
    fn has_room(&self) -> bool {
        true
    }

    fn in_message(&self) -> bool {
        // The line is a message of its own, whatever is being put together.
        false
    }

    fn text(&mut self, line: &str) {
        self.output.publish(MessageKind::Text, line.as_bytes(), self.parameters);
    }

    fn complain(&self, text: std::fmt::Arguments<'_>) {
        report(Level::Error, format_args!("{}: {text}", self.parameters.name));
    }
}

/// The channel does not take a message. The log says so of the first one after one that it took.
fn lost(refusing: &Cell<bool>, name: &str, failure: &Failure<PublishError>) {
    if !refusing.replace(true) {
        report(Level::Error, format_args!("a message of {name} is lost: {failure}"));
    }
}

/// Memory for a message could not be had.
pub fn no_memory() -> Ending {
    Ending { code: CloseCode::INTERNAL, reason: "no memory for the message".to_owned() }
}

/// The program broke the rules of its format.
pub fn misframed(error: FramingError, parameters: &Parameters) -> Ending {
    report(Level::Error, format_args!("{}: the program wrote {error}", parameters.name));
    Ending { code: error.close_code(), reason: error.to_string() }
}
