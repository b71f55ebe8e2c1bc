// SPDX-License-Identifier: Apache-2.0

//! Which server is the master: what Sentinels say of it ("Guidelines for Redis clients with support for Redis Sentinel").
//!
//! One Sentinel after the other is asked, from one drawn at random on, until one knows. What it says is believed only as far as the server
//! itself confirms it, by its role. Never in here: connections; their owner asks by [`Search`] and tells what came of it.

use super::command::append;
use super::resp::Value;
use super::script::decimal;
use super::url::Node;

/// The Pub/Sub channel by which a Sentinel tells that a master was replaced.
pub const SWITCHED: &[u8] = b"+switch-master";

/// A search for the master of a name.
#[derive(Debug, Clone)]
pub struct Search {
    /// Invariant: never empty.
    sentinels: Vec<Node>,
    name: String,
    next: usize,
}

impl Search {
    /// Begins with the Sentinel that `random` picks. `None` where there is no Sentinel to ask.
    pub fn new(sentinels: Vec<Node>, name: String, random: u64) -> Option<Self> {
        let count = sentinels.len() as u64;
        // A remainder of a length fits its type.
        let next = random.checked_rem(count)? as usize;
        Some(Search { sentinels, name, next })
    }

    /// The Sentinel to ask next. Whoever has asked it without success, or found that its answer was not true, calls again.
    pub fn next_sentinel(&mut self) -> Node {
        debug_assert!(!self.sentinels.is_empty(), "new() refuses an empty list");
        let node = self.sentinels[self.next].clone();
        self.next = (self.next + 1) % self.sentinels.len();
        node
    }

    /// Asks for the master.
    pub fn ask(&self, out: &mut Vec<u8>) {
        append(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self.name.as_bytes()], out);
    }

    /// Reads the answer; `None` if the Sentinel does not know the name, or has said something else.
    pub fn master(reply: &Value) -> Option<Node> {
        let [host, port] = reply.values()? else { return None };
        node(host.octets()?, port.octets()?)
    }

    /// The new master, if a message on [`SWITCHED`] is about the name that is searched: `name old-host old-port new-host new-port`.
    pub fn switched(&self, message: &[u8]) -> Option<Node> {
        let mut words = message.split(|&octet| octet == b' ');
        if words.next()? != self.name.as_bytes() {
            return None;
        }
        let (host, port) = (words.nth(2)?, words.next()?);
        node(host, port)
    }
}

fn node(host: &[u8], port: &[u8]) -> Option<Node> {
    let host = std::str::from_utf8(host).ok().filter(|host| !host.is_empty())?;
    let port = decimal(port).and_then(|port| u16::try_from(port).ok()).filter(|&port| port != 0)?;
    Some(Node { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Node {
        Node { host: host.to_owned(), port }
    }

    #[test]
    fn every_sentinel_is_asked_in_turn() {
        let nodes = vec![at("a", 1), at("b", 2), at("c", 3)];
        let mut search = Search::new(nodes.clone(), "news".to_owned(), 7).unwrap();
        let asked: Vec<Node> = (0..4).map(|_| search.next_sentinel()).collect();
        assert_eq!(asked, [at("b", 2), at("c", 3), at("a", 1), at("b", 2)]);
        assert!(Search::new(Vec::new(), "news".to_owned(), 7).is_none());
    }

    #[test]
    fn the_master_is_read() {
        let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        let search = Search::new(vec![at("a", 1)], "news".to_owned(), 0).unwrap();
        let mut out = Vec::new();
        search.ask(&mut out);
        assert!(out.ends_with(b"$4\r\nnews\r\n"));
        assert_eq!(Search::master(&Value::Array(vec![bulk("10.0.0.1"), bulk("6380")])), Some(at("10.0.0.1", 6380)));
        for reply in
            [Value::Null, Value::Array(vec![]), Value::Array(vec![bulk("h"), bulk("0")]), Value::Error(b"ERR".to_vec())]
        {
            assert_eq!(Search::master(&reply), None);
        }
    }

    #[test]
    fn a_switch_of_another_master_is_none_of_ours() {
        let search = Search::new(vec![at("a", 1)], "news".to_owned(), 0).unwrap();
        assert_eq!(search.switched(b"news 10.0.0.1 6379 10.0.0.2 6380"), Some(at("10.0.0.2", 6380)));
        assert_eq!(search.switched(b"other 10.0.0.1 6379 10.0.0.2 6380"), None);
        assert_eq!(search.switched(b"news 10.0.0.1 6379"), None);
        assert_eq!(search.switched(b""), None);
    }
}
