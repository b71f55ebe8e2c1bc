// SPDX-License-Identifier: Apache-2.0

//! The subscribers of channels one by one, as JSON. The other forms have no way to write any name that a client may choose.

use std::fmt::{self, Write};

use super::presence::Quoted;
use crate::channel::store::{ListedSubscriber, SubscriberList};

/// The subscribers of several channels, as far as they are listed.
#[derive(Debug, Default)]
pub struct SubscribersReport {
    subscribers: u32,
    list: String,
    has_more: bool,
}

impl SubscribersReport {
    /// The media type of what it is written as.
    pub const CONTENT_TYPE: &str = "application/json";

    /// Adds those of one channel.
    pub fn add(&mut self, channel: &[u8], found: &SubscriberList) {
        self.subscribers = self.subscribers.saturating_add(found.subscribers);
        self.has_more |= found.has_more;
        for ListedSubscriber { name, transport, since, behind, pid } in &found.named {
            let comma = if self.list.is_empty() { "" } else { ", " };
            let (channel, name, transport) = (Quoted(channel), Quoted(name), transport.name());
            // Writing to a string does not fail.
            let _ = write!(
                self.list,
                "{comma}{{\"channel\": {channel}, \"id\": {name}, \"transport\": \"{transport}\", \"since\": {since}, \
                 \"behind\": {behind}, \"worker\": {pid}}}"
            );
        }
    }
}

impl fmt::Display for SubscribersReport {
    /// `{"scope": "machine", "subscribers": 3, "list": [{"channel": "lobby", "id": "anna", ...}], "more": false}`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SubscribersReport { subscribers, list, has_more } = self;
        write!(
            f,
            "{{\"scope\": \"machine\", \"subscribers\": {subscribers}, \"list\": [{list}], \"more\": {has_more}}}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::transport::Transport;

    #[test]
    fn nobody_and_somebody() {
        let mut report = SubscribersReport::default();
        assert_eq!(report.to_string(), r#"{"scope": "machine", "subscribers": 0, "list": [], "more": false}"#);
        let one =
            |name: &[u8], transport| ListedSubscriber { name: name.to_vec(), transport, since: 7, behind: 5, pid: 11 };
        let named = vec![one(b"anna", Transport::WebSocket), one(b"\"}", Transport::LongPoll)];
        report.add(b"a", &SubscriberList { subscribers: 3, named, has_more: false });
        report.add(b"b\n", &SubscriberList { subscribers: 1, named: vec![one(b"c", Transport::Raw)], has_more: true });
        let list = [
            r#"{"channel": "a", "id": "anna", "transport": "websocket", "since": 7, "behind": 5, "worker": 11}"#,
            r#"{"channel": "a", "id": "\"}", "transport": "longpoll", "since": 7, "behind": 5, "worker": 11}"#,
            r#"{"channel": "b\u000a", "id": "c", "transport": "raw", "since": 7, "behind": 5, "worker": 11}"#,
        ];
        let list = list.join(", ");
        let expected = format!(r#"{{"scope": "machine", "subscribers": 4, "list": [{list}], "more": true}}"#);
        assert_eq!(report.to_string(), expected);
    }
}
