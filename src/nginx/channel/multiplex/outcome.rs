// SPDX-License-Identifier: Apache-2.0

//! What became of a command, as its client is told.

use std::fmt::Display;

use crate::channel::backend::{Failure, Outcome, PublishReply};
use crate::channel::memory::Corrupt;
use crate::channel::position::{Epoch, MessageId, Offset};
use crate::channel::store::{Info, Presence, PublishError, ReadError};
use crate::nginx::ffi;
use crate::nginx::status::Status;

/// The status of what has failed for no reason that concerns the client.
pub const FAILED: u16 = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as u16;
/// The status of what is not allowed.
pub const FORBIDDEN: u16 = ffi::NGX_HTTP_FORBIDDEN as u16;

/// A status, and what the client is told beside it.
pub type Refusal = (u16, String);

/// What became of a publication: its id, unless it was dropped, and what is known of the channel.
pub type Published = Result<(Option<MessageId>, Info), Refusal>;

/// What the client is told beside a status.
pub fn plain(status: Status) -> Refusal {
    let status = status.answer().filter(|status| (400..600).contains(status)).unwrap_or(FAILED);
    let reason = match status {
        400 => "the request is malformed",
        401 => "who you are is not known",
        403 => "forbidden",
        404 => "there is no such channel",
        413 => "too large",
        429 => "too many",
        502 | 504 => "nobody can be asked",
        503 => "try again later",
        507 => "there is no room",
        508 => "a hook is asked because of itself",
        500.. => "something is wrong with the server",
        _ => "refused",
    };
    (status, reason.to_owned())
}

/// The status of a hook that refuses, and how it is told.
pub fn told_by_hook(status: u16) -> Refusal {
    plain(Status::http(status))
}

/// Why whoever has the channels has not done something; `own` is the status of a reason that the operation itself has.
fn failed<E: Display>(failure: &Failure<E>, own: impl FnOnce(&E) -> u16) -> Refusal {
    let status = match failure {
        Failure::Unavailable => 503,
        Failure::Unknown => 504,
        Failure::Refused | Failure::Unsupported => FAILED,
        Failure::Own(error) => own(error),
    };
    (status, failure.to_string())
}

/// What became of a publication that the backend was asked for.
pub fn published(outcome: Outcome<PublishReply, PublishError>) -> Published {
    let status = |error: &PublishError| match error {
        PublishError::TooLarge => 507,
        PublishError::Group => FORBIDDEN,
        PublishError::Corrupt => FAILED,
    };
    outcome.map(|reply| (Some(reply.id), reply.info)).map_err(|failure| failed(&failure, status))
}

/// What is known of a channel to which nothing was published.
pub fn dropped(outcome: Outcome<Option<Info>, Corrupt>) -> Info {
    let last = MessageId { epoch: Epoch(0), offset: Offset(0) };
    outcome.ok().flatten().unwrap_or(Info { messages: 0, requested: None, subscribers: 0, last })
}

/// Who is there, as the backend has answered.
pub fn present(outcome: Outcome<Option<Presence>, ReadError>) -> Result<Presence, Refusal> {
    outcome.map_err(|failure| failed(&failure, |_| FAILED))?.ok_or_else(|| plain(Status::NOT_FOUND))
}
