// SPDX-License-Identifier: Apache-2.0

//! What a hook says about a message before it is published.

use std::rc::Rc;

use crate::channel::hook::Publishing;
use crate::channel::message::{OCTET_STREAM, kind_of};
use crate::nginx::detached::{self, HookAnswer, Question, RefusalHeaders};
use crate::nginx::log::Level;
use crate::nginx::request::Request;
use crate::nginx::status::Status;
use crate::ws::frame::MessageKind;

/// A message that is not published yet.
pub struct Draft {
    /// Its `Content-Type`.
    pub content_type: Vec<u8>,
    /// The message.
    pub message: Rc<Vec<u8>>,
}

/// What becomes of it.
pub enum Decision {
    /// This is published, which may be another message.
    Publish(Draft),
    /// Nobody gets it; all is well.
    Drop,
    /// Nobody gets it, and the publisher is told so.
    Refuse {
        /// The status that it is told.
        status: u16,
        /// What goes with it.
        headers: RefusalHeaders,
    },
}

/// Asks about a message; what is published in its place may be of `limit` octets, 0 for any number. `done` is called in a
/// later turn of the event loop.
///
/// # Errors
///
/// The status to answer.
pub fn ask(
    request: Request<'_>,
    draft: Draft,
    limit: usize,
    done: impl FnOnce(Decision) + 'static,
) -> Result<(), Status> {
    let target = request.settings().channel_publish_request().ok_or(Status::INTERNAL_SERVER_ERROR)?;
    let Draft { content_type: kept, message } = draft;
    let content_type = match (&*kept, kind_of(&kept, &[&message])) {
        (b"", MessageKind::Text) => b"text/plain; charset=utf-8".to_vec(),
        (b"", MessageKind::Binary) => OCTET_STREAM.to_vec(),
        (named, _) => named.to_vec(),
    };
    let limit = if limit == 0 { usize::MAX } else { limit };
    let question = Question::Message { content_type, message, limit };
    let decide = |answer: HookAnswer, copy: Option<Request<'_>>| {
        done(match Publishing::of(answer.status) {
            Publishing::Replace => {
                Decision::Publish(Draft { content_type: answer.content_type, message: Rc::new(answer.body) })
            }
            Publishing::Keep => Decision::Publish(Draft { content_type: kept, message: answer.message }),
            Publishing::Drop => Decision::Drop,
            Publishing::Refuse(status) => {
                if let Some(copy) = copy {
                    copy.report(
                        Level::Info,
                        format_args!("\"websocket_channel_publish_request\" refuses a message: {status}"),
                    );
                }
                Decision::Refuse { status, headers: answer.refusal }
            }
        });
    };
    detached::ask(request, &target, question, Box::new(decide))
}
