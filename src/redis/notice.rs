// SPDX-License-Identifier: Apache-2.0

//! What a server says on a connection that listens, without having been asked.

use super::resp::Value;
use super::script::reply::{decimal, history};
use crate::channel::position::{Epoch, MessageId, Offset};
use crate::channel::store::History;

/// What the text of a notice begins with that is about subscribers of this name.
pub const EXPELLED: &[u8] = b"expelled:";

/// What has happened, by the Pub/Sub channel of the channel that it has happened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A message was published.
    Message {
        /// The Pub/Sub channel.
        topic: Vec<u8>,
        /// The message's id.
        id: MessageId,
        /// When it was published, in milliseconds of Unix time by the server's clock.
        unix: u64,
        /// What the channel keeps from now on.
        history: History,
        /// The message in its [`envelope`](super::envelope).
        sealed: Vec<u8>,
    },
    /// The channel was deleted.
    Deleted {
        /// The Pub/Sub channel.
        topic: Vec<u8>,
        /// The epoch that it had.
        epoch: Epoch,
    },
    /// Subscribers of the channel are to be closed.
    Expelled {
        /// The Pub/Sub channel.
        topic: Vec<u8>,
        /// What they are called.
        who: Vec<u8>,
    },
    /// This connection listens from now on.
    Subscribed {
        /// The Pub/Sub channel.
        topic: Vec<u8>,
    },
    /// This connection does not listen any more. Where nobody has asked for it, the slot has gone to another node of the cluster.
    Unsubscribed {
        /// The Pub/Sub channel.
        topic: Vec<u8>,
    },
    /// A message that is not one of a channel of ours: a Sentinel's, for example.
    Foreign {
        /// The Pub/Sub channel.
        topic: Vec<u8>,
        /// The message.
        payload: Vec<u8>,
    },
    /// A kind of notice that was not asked for.
    Other,
}

impl Notice {
    /// What a push says; `None` for a value that is none.
    pub fn of(value: Value) -> Option<Self> {
        let Value::Push(values) = value else { return None };
        let mut values = values.into_iter();
        let text = |value: Option<Value>| match value {
            Some(Value::Bulk(octets) | Value::Simple(octets)) => Some(octets),
            _ => None,
        };
        let (Some(kind), Some(topic)) = (text(values.next()), text(values.next())) else { return Some(Notice::Other) };
        Some(match &*kind {
            b"message" | b"smessage" => match text(values.next()) {
                Some(payload) => Self::message(topic, payload),
                None => Notice::Other,
            },
            b"subscribe" | b"ssubscribe" => Notice::Subscribed { topic },
            b"unsubscribe" | b"sunsubscribe" => Notice::Unsubscribed { topic },
            _ => Notice::Other,
        })
    }

    /// `epoch:offset:unix:kept:age\nmessage`, `deleted:epoch`, or `expelled:name`.
    fn message(topic: Vec<u8>, mut payload: Vec<u8>) -> Self {
        if let Some(epoch) = payload.strip_prefix(b"deleted:").and_then(decimal) {
            return Notice::Deleted { topic, epoch: Epoch(epoch) };
        }
        if let Some(who) = payload.strip_prefix(EXPELLED) {
            return Notice::Expelled { topic, who: who.to_vec() };
        }
        let head = memchr::memchr(b'\n', &payload).map(|end| &payload[..end]).unwrap_or_default();
        let mut parts = head.splitn(4, |&octet| octet == b':');
        let mut number = || parts.next().and_then(decimal);
        let (Some(epoch), Some(offset), Some(unix)) = (number(), number(), number()) else {
            return Notice::Foreign { topic, payload };
        };
        let Some(history) = parts.next().and_then(history) else {
            return Notice::Foreign { topic, payload };
        };
        payload.drain(..=head.len());
        let id = MessageId { epoch: Epoch(epoch), offset: Offset(offset) };
        Notice::Message { topic, id, unix, history, sealed: payload }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(words: &[&[u8]]) -> Option<Notice> {
        Notice::of(Value::Push(words.iter().map(|word| Value::Bulk(word.to_vec())).collect()))
    }

    #[test]
    fn notices_are_told_apart() {
        let topic = b"t".to_vec();
        let id = MessageId { epoch: Epoch(4), offset: Offset(2) };
        let message = Notice::Message {
            topic: topic.clone(),
            id,
            unix: 99,
            history: History { length: 3, time: 5 },
            sealed: b"a\nb".to_vec(),
        };
        assert_eq!(push(&[b"message", b"t", b"4:2:99:3:5\na\nb"]), Some(message.clone()));
        assert_eq!(push(&[b"smessage", b"t", b"4:2:99:3:5\na\nb"]), Some(message));
        let deleted = Notice::Deleted { topic: topic.clone(), epoch: Epoch(4) };
        assert_eq!(push(&[b"message", b"t", b"deleted:4"]), Some(deleted));
        let expelled = Notice::Expelled { topic: topic.clone(), who: b"a:1\n".to_vec() };
        assert_eq!(push(&[b"message", b"t", b"expelled:a:1\n"]), Some(expelled));
        assert_eq!(push(&[b"subscribe", b"t"]), Some(Notice::Subscribed { topic: topic.clone() }));
        assert_eq!(push(&[b"sunsubscribe", b"t"]), Some(Notice::Unsubscribed { topic }));
        assert_eq!(Notice::of(Value::Null), None);
    }

    #[test]
    fn messages_of_others_are_none_of_ours() {
        for payload in [
            &b""[..],
            b"hello",
            b"4:2:3\nx",
            b"4:2:3:4:5:6\nx",
            b"a:2:3:1:1\nx",
            b"4:2:3::1\nx",
            b"deleted:",
            b"deleted:x",
        ] {
            let foreign = Notice::Foreign { topic: b"t".to_vec(), payload: payload.to_vec() };
            assert_eq!(push(&[b"message", b"t", payload]), Some(foreign));
        }
        assert_eq!(push(&[b"invalidate"]), Some(Notice::Other));
    }
}
