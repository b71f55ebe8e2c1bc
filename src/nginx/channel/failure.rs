// SPDX-License-Identifier: Apache-2.0

//! Why a message of a WebSocket was not published, and what that means for its session.

use crate::channel::backend::{Failure as Failed, Outcome, PublishReply};
use crate::channel::hook::Moderator;
use crate::channel::store::{Info, PublishError};
use crate::nginx::status::Status;
use crate::session::endpoint::Ending;
use crate::ws::close::CloseCode;

/// Why nobody gets a message.
pub enum Failure {
    /// This message is not published, the next one may be.
    Refused {
        /// The status that a publisher by HTTP would be told.
        status: u16,
        /// How the session ends where its messages are not answered.
        ending: Ending,
    },
    /// The session cannot go on.
    Ended(Ending),
}

impl Failure {
    /// The hook that is asked about messages has said no, or nothing.
    pub fn of_hook(status: u16) -> Self {
        let reason = format!("message refused: {status}");
        match Moderator::of(status) {
            Moderator::Refuses => Failure::Refused { status, ending: Ending { code: CloseCode::POLICY, reason } },
            Moderator::Unreachable => Failure::Ended(Ending { code: CloseCode::TRY_AGAIN, reason }),
            Moderator::Broken => Failure::Ended(Ending { code: CloseCode::INTERNAL, reason }),
        }
    }

    /// The hook could not be asked.
    pub fn of_asking(status: Status) -> Self {
        let code = match status.answer().map(Moderator::of) {
            Some(Moderator::Unreachable) => CloseCode::TRY_AGAIN,
            _ => CloseCode::INTERNAL,
        };
        Failure::Ended(Ending { code, reason: "nobody can be asked about the message".to_owned() })
    }
}

/// What a publisher is told of the channels.
///
/// # Errors
///
/// The message was not published.
pub fn published(outcome: Outcome<PublishReply, PublishError>) -> Result<Info, Failure> {
    outcome.map(|reply| reply.info).map_err(|failed| {
        let reason = failed.to_string();
        match failed {
            Failed::Own(PublishError::TooLarge) => Failure::Ended(Ending { code: CloseCode::TOO_BIG, reason }),
            Failed::Own(PublishError::Group) => Failure::Ended(Ending { code: CloseCode::POLICY, reason }),
            Failed::Own(PublishError::Corrupt) | Failed::Refused | Failed::Unsupported => {
                Failure::Ended(Ending { code: CloseCode::INTERNAL, reason })
            }
            Failed::Unavailable => {
                Failure::Refused { status: 503, ending: Ending { code: CloseCode::TRY_AGAIN, reason } }
            }
            Failed::Unknown => Failure::Refused { status: 504, ending: Ending { code: CloseCode::TRY_AGAIN, reason } },
        }
    })
}
