// SPDX-License-Identifier: Apache-2.0

//! Why a message of a WebSocket was not published, and what that means for its session.

use super::publish::Told;
use crate::channel::hook::Moderator;
use crate::channel::store::{Info, PublishError};
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
    pub fn of_asking(status: isize) -> Self {
        let code = match u16::try_from(status).map(Moderator::of) {
            Ok(Moderator::Unreachable) => CloseCode::TRY_AGAIN,
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
pub fn published(told: Result<Told, PublishError>) -> Result<Info, Failure> {
    told.map(|told| told.info).map_err(|error| {
        let reason = error.to_string();
        match error {
            PublishError::TooLarge => Failure::Ended(Ending { code: CloseCode::TOO_BIG, reason }),
            PublishError::Group => Failure::Ended(Ending { code: CloseCode::POLICY, reason }),
            PublishError::Corrupt => Failure::Ended(Ending { code: CloseCode::INTERNAL, reason }),
            PublishError::Unavailable => {
                Failure::Refused { status: 503, ending: Ending { code: CloseCode::TRY_AGAIN, reason } }
            }
            PublishError::Unknown => {
                Failure::Refused { status: 504, ending: Ending { code: CloseCode::TRY_AGAIN, reason } }
            }
        }
    })
}
