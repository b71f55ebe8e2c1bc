// SPDX-License-Identifier: Apache-2.0

//! What a client is told of its commands, and of a subscription that ends.

use std::fmt::Write;

use crate::channel::position::MessageId;
use crate::channel::store::{Info, Presence};
use crate::json;

/// Which command is answered, and which channel it was about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// The number of the command, if it had one.
    pub reference: Option<u64>,
    /// The channel; `None` for those of the location.
    pub channel: Option<Box<str>>,
}

impl About {
    /// The beginning of an answer.
    fn begin(&self, operation: &str) -> String {
        let mut text = format!("{{\"op\":\"{operation}\"");
        if let Some(reference) = self.reference {
            // Writing to a string does not fail.
            let _ = write!(text, ",\"ref\":{reference}");
        }
        if let Some(channel) = &self.channel {
            text.push_str(",\"channel\":");
            json::string(&mut text, channel);
        }
        text
    }
}

/// The messages after this position will come.
pub fn subscribed(about: &About, position: &str) -> String {
    let mut text = about.begin("subscribed");
    text.push_str(",\"id\":");
    json::string(&mut text, position);
    text.push('}');
    text
}

/// No more of them will come.
pub fn unsubscribed(about: &About) -> String {
    about.begin("unsubscribed") + "}"
}

/// No more of them will come, and the client has not asked for that.
pub fn ended(channel: Option<&str>, status: u16, reason: &str) -> String {
    let about = About { reference: None, channel: channel.map(Into::into) };
    refusal(about.begin("unsubscribed"), status, reason)
}

/// A message was published, or dropped if it has no id.
pub fn published(about: &About, id: Option<MessageId>, info: &Info) -> String {
    let mut text = about.begin("published");
    if let Some(id) = id {
        let _ = write!(text, ",\"id\":\"{id}\"");
    }
    let _ = write!(text, ",\"subscribers\":{},\"messages\":{}}}", info.subscribers, info.messages);
    text
}

/// Who is there.
pub fn presence(about: &About, presence: &Presence) -> String {
    let mut text = about.begin("presence");
    let members = presence.to_string();
    text.push(',');
    text.push_str(members.strip_prefix('{').unwrap_or(&members));
    text
}

/// The server is there.
pub fn pong(about: &About) -> String {
    about.begin("pong") + "}"
}

/// What was wanted is refused, with the status that a request by HTTP would have.
pub fn error(about: &About, status: u16, reason: &str) -> String {
    refusal(about.begin("error"), status, reason)
}

fn refusal(mut text: String, status: u16, reason: &str) -> String {
    let _ = write!(text, ",\"status\":{status},\"reason\":");
    json::string(&mut text, reason);
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::position::{Epoch, Offset};

    #[test]
    fn answers() {
        let about = About { reference: Some(7), channel: Some("a\"b".into()) };
        let own = About::default();
        let id = MessageId { epoch: Epoch(5), offset: Offset(2) };
        let info = Info { messages: 3, requested: None, subscribers: 2, last: id };
        assert_eq!(subscribed(&about, "5:1"), r#"{"op":"subscribed","ref":7,"channel":"a\"b","id":"5:1"}"#);
        assert_eq!(subscribed(&own, "5:1"), r#"{"op":"subscribed","id":"5:1"}"#);
        assert_eq!(unsubscribed(&about), r#"{"op":"unsubscribed","ref":7,"channel":"a\"b"}"#);
        assert_eq!(
            ended(Some("a"), 410, "gone"),
            r#"{"op":"unsubscribed","channel":"a","status":410,"reason":"gone"}"#
        );
        assert_eq!(published(&own, Some(id), &info), r#"{"op":"published","id":"5:2","subscribers":2,"messages":3}"#);
        assert_eq!(published(&own, None, &info), r#"{"op":"published","subscribers":2,"messages":3}"#);
        let nobody = Presence::default();
        assert_eq!(presence(&own, &nobody), r#"{"op":"presence","subscribers": 0, "present": []}"#);
        assert_eq!(pong(&About { reference: Some(0), channel: None }), r#"{"op":"pong","ref":0}"#);
        assert_eq!(error(&own, 403, "no"), r#"{"op":"error","status":403,"reason":"no"}"#);
    }
}
