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
        let (name, id) = match self.happening {
            Happening::Join => ("join", None),
            Happening::Leave => ("leave", None),
            Happening::Publish(id) => ("publish", Some(id)),
            Happening::Delete => ("delete", None),
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
