// SPDX-License-Identifier: Apache-2.0

//! Which node of a cluster has a slot ("Redis cluster specification"): what the nodes say of it, and how that changes.

use crate::redis::names::SLOTS;
use crate::redis::resp::Value;
use crate::redis::url::Node;

/// The masters of a cluster and their slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    masters: Vec<Node>,
    /// For each slot the place of its master. Invariant: a place in `masters`, or [`NOBODY`].
    owners: Vec<u16>,
}

/// A slot that no node serves.
const NOBODY: u16 = u16::MAX;

impl Slots {
    /// Reads the answer to `CLUSTER SLOTS` of the node at `asked`: nodes that do not know their own address leave it out.
    /// `None` if it cannot be read.
    pub fn of(reply: &Value, asked: &Node) -> Option<Self> {
        let mut slots = Slots { masters: Vec::new(), owners: vec![NOBODY; usize::from(SLOTS)] };
        for range in reply.values()? {
            let [first, last, master, ..] = range.values()? else { return None };
            let bound = |value: &Value| value.number().and_then(|slot| usize::try_from(slot).ok());
            let (first, last) = (bound(first)?, bound(last)?);
            let [host, port, ..] = master.values()? else { return None };
            let host = match host.octets().map(std::str::from_utf8) {
                None | Some(Ok("" | "?")) => asked.host.clone(),
                Some(host) => host.ok()?.to_owned(),
            };
            let port = port.number().and_then(|port| u16::try_from(port).ok()).filter(|&port| port != 0)?;
            let place = slots.place(Node { host, port })?;
            slots.owners.get_mut(first..=last)?.fill(place);
        }
        Some(slots)
    }

    /// The master of a slot; `None` if no node serves it.
    pub fn owner(&self, slot: u16) -> Option<&Node> {
        self.masters.get(usize::from(*self.owners.get(usize::from(slot))?))
    }

    /// A node has said that a slot is elsewhere from now on.
    pub fn moved(&mut self, slot: u16, node: Node) {
        let place = self.place(node).unwrap_or(NOBODY);
        if let Some(owner) = self.owners.get_mut(usize::from(slot)) {
            *owner = place;
        }
    }

    /// Whether a node is the master of any slot.
    pub fn has(&self, node: &Node) -> bool {
        let Some(place) = self.masters.iter().position(|master| master == node) else { return false };
        self.owners.iter().any(|&owner| usize::from(owner) == place)
    }

    /// All masters. Some of them may have no slot any more.
    pub fn masters(&self) -> &[Node] {
        &self.masters
    }

    fn place(&mut self, node: Node) -> Option<u16> {
        let place = self.masters.iter().position(|present| *present == node).unwrap_or_else(|| {
            self.masters.push(node);
            self.masters.len() - 1
        });
        u16::try_from(place).ok().filter(|&place| place != NOBODY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Node {
        Node { host: host.to_owned(), port }
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = |host, port| Value::Array(vec![host, Value::Integer(port), Value::Bulk(b"id".to_vec())]);
        let replica = node(Value::Bulk(b"r".to_vec()), 1);
        Value::Array(vec![Value::Integer(first), Value::Integer(last), node(host, port), replica])
    }

    #[test]
    fn slots_have_owners() {
        let host = Value::Bulk(b"10.0.0.1".to_vec());
        let reply = Value::Array(vec![range(0, 99, host.clone(), 7000), range(100, 16383, Value::Null, 7001)]);
        let mut slots = Slots::of(&reply, &at("seed", 7001)).unwrap();
        assert_eq!(slots.owner(99), Some(&at("10.0.0.1", 7000)));
        assert_eq!(slots.owner(100), Some(&at("seed", 7001)));
        assert_eq!(slots.owner(16384), None);
        slots.moved(99, at("10.0.0.3", 7002));
        assert_eq!((slots.owner(98), slots.owner(99)), (Some(&at("10.0.0.1", 7000)), Some(&at("10.0.0.3", 7002))));
        assert_eq!(slots.masters().len(), 3);
        slots.moved(16384, at("x", 1));
    }

    #[test]
    fn slots_of_nobody_have_no_owner() {
        let reply = Value::Array(vec![range(5, 5, Value::Bulk(b"h".to_vec()), 7000)]);
        let slots = Slots::of(&reply, &at("seed", 1)).unwrap();
        assert_eq!((slots.owner(4), slots.owner(5)), (None, Some(&at("h", 7000))));
    }

    #[test]
    fn what_is_no_map_is_refused() {
        let host = || Value::Bulk(b"h".to_vec());
        let asked = at("seed", 1);
        for reply in [
            Value::Null,
            Value::Error(b"ERR".to_vec()),
            Value::Array(vec![Value::Integer(1)]),
            Value::Array(vec![range(0, 16384, host(), 1)]),
            Value::Array(vec![range(5, 3, host(), 1)]),
            Value::Array(vec![range(-1, 3, host(), 1)]),
            Value::Array(vec![range(0, 3, host(), 0)]),
            Value::Array(vec![range(0, 3, host(), 65536)]),
        ] {
            assert_eq!(Slots::of(&reply, &asked), None);
        }
    }
}
