// SPDX-License-Identifier: Apache-2.0

//! What a channel of events says: `websocket_channel_events`.

use std::fmt::Write;

use super::position::MessageId;
use crate::json;

/// The content type of an event.
pub const CONTENT_TYPE: &[u8] = b"application/json";

/// What has happened to a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// Somebody has subscribed.
    Join,
    /// A subscriber has gone.
    Leave,
    /// A message was published.
    Publish(MessageId),
    /// The channel was deleted.
    Delete,
}

impl Happening {
    /// What is called so in the configuration and in an event.
    fn name(self) -> &'static str {
        match self {
            Happening::Join => "join",
            Happening::Leave => "leave",
            Happening::Publish(_) => "publish",
            Happening::Delete => "delete",
        }
    }
}

/// What is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    const JOIN: Self = Self(1);
    const LEAVE: Self = Self(1 << 1);
    const PUBLISH: Self = Self(1 << 2);
    const DELETE: Self = Self(1 << 3);

    /// All of them.
    pub const ALL: Self = Self(0b1111);

    /// None of them.
    pub const NONE: Self = Self(0);

    /// The one of this name.
    pub fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"join" => Some(Self::JOIN),
            b"leave" => Some(Self::LEAVE),
            b"publish" => Some(Self::PUBLISH),
            b"delete" => Some(Self::DELETE),
            _ => None,
        }
    }

    /// These and others.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there is one of these among them.
    pub fn has_any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether something is told of.
    pub fn has(self, happening: Happening) -> bool {
        self.has_any(match happening {
            Happening::Join => Self::JOIN,
            Happening::Leave => Self::LEAVE,
            Happening::Publish(_) => Self::PUBLISH,
            Happening::Delete => Self::DELETE,
        })
    }

    /// Joins and leaves.
    pub fn comings() -> Self {
        Self::JOIN.and(Self::LEAVE)
    }
}

/// Something that has happened, for those who watch.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// What.
    pub happening: Happening,
    /// The channel that it is told to.
    pub channel: &'a [u8],
    /// Who did it: the value of `websocket_channel_presence`.
    pub who: Option<&'a [u8]>,
    /// When, in milliseconds of Unix time.
    pub unix: u64,
}

impl Event<'_> {
    /// As a JSON object in one line. What is not UTF-8 is replaced: JSON has no other text.
    pub fn render(&self) -> String {
        let name = self.happening.name();
        let id = match self.happening {
            Happening::Publish(id) => Some(id),
            Happening::Join | Happening::Leave | Happening::Delete => None,
        };
        let mut text = format!("{{\"event\": \"{name}\", \"channel\": ");
        json::string(&mut text, &String::from_utf8_lossy(self.channel));
        // Writing to a string does not fail.
        if let Some(id) = id {
            let _ = write!(text, ", \"message_id\": \"{id}\"");
        }
        if let Some(who) = self.who {
            text.push_str(", \"who\": ");
            json::string(&mut text, &String::from_utf8_lossy(who));
        }
        let _ = write!(text, ", \"time\": {}.{:03}}}", self.unix / 1000, self.unix % 1000);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::position::{Epoch, Offset};

    #[test]
    fn kinds() {
        let id = MessageId { epoch: Epoch(5), offset: Offset(2) };
        let all = [Happening::Join, Happening::Leave, Happening::Publish(id), Happening::Delete];
        for happening in all {
            let kind = Kinds::named(happening.name().as_bytes()).unwrap();
            assert!(all.iter().all(|other| kind.has(*other) == (*other == happening)));
            assert!(Kinds::ALL.has(happening) && !Kinds::NONE.has(happening));
        }
        assert_eq!(Kinds::named(b"join").unwrap().and(Kinds::named(b"leave").unwrap()), Kinds::comings());
        assert_eq!(Kinds::named(b"Join"), None);
    }

    #[test]
    fn lines() {
        let event = |happening, who| Event { happening, channel: b"a\"b", who, unix: 1_700_000_000_007 }.render();
        assert_eq!(event(Happening::Join, None), r#"{"event": "join", "channel": "a\"b", "time": 1700000000.007}"#);
        assert_eq!(
            event(Happening::Leave, Some(b"ann\xff")),
            "{\"event\": \"leave\", \"channel\": \"a\\\"b\", \"who\": \"ann\u{fffd}\", \"time\": 1700000000.007}"
        );
        let id = MessageId { epoch: Epoch(5), offset: Offset(2) };
        assert_eq!(
            event(Happening::Publish(id), None),
            r#"{"event": "publish", "channel": "a\"b", "message_id": "5:2", "time": 1700000000.007}"#
        );
        assert_eq!(event(Happening::Delete, None), r#"{"event": "delete", "channel": "a\"b", "time": 1700000000.007}"#);
    }
}
