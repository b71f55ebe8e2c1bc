// SPDX-License-Identifier: Apache-2.0

//! Who is on a channel at one node, in the text by which the nodes tell each other.
//!
//! | octets | what |
//! | --- | --- |
//! | 1 | version of this form: 1 |
//! | | for each name: 4 octets how many subscribers have it and 2 octets its length, the higher octets first; the name |

use std::collections::BTreeMap;

use crate::channel::store::Presence;

/// The form that is written. Nodes of two versions share an engine while one after the other is upgraded.
const VERSION: u8 = 1;

/// Octets after which no more names are told of: those who have them are only counted.
const MOST: usize = 1 << 20;

/// The text; empty if nobody has said who it is.
pub fn write(names: &BTreeMap<Vec<u8>, u32>) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, count) in names {
        let Ok(length) = u16::try_from(name.len()) else { continue };
        if text.len() + 6 + name.len() > MOST {
            break;
        }
        if text.is_empty() {
            text.push(VERSION);
        }
        text.extend_from_slice(&count.to_be_bytes());
        text.extend_from_slice(&length.to_be_bytes());
        text.extend_from_slice(name);
    }
    text
}

/// Adds a node: how many subscribers it has, and what it says of them. What is of another form, or was cut, is left out.
pub fn add(all: &mut Presence, subscribers: u64, text: &[u8]) {
    let subscribers = u32::try_from(subscribers).unwrap_or(u32::MAX);
    all.subscribers = all.subscribers.saturating_add(subscribers);
    let Some((&VERSION, mut rest)) = text.split_first() else { return };
    while let Some((count, tail)) = rest.split_first_chunk::<4>()
        && let Some((length, tail)) = tail.split_first_chunk::<2>()
        && let Some((name, tail)) = tail.split_at_checked(u16::from_be_bytes(*length).into())
    {
        let sum = all.names.entry(name.to_vec()).or_default();
        *sum = sum.saturating_add(u32::from_be_bytes(*count));
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[(&[u8], u32)]) -> BTreeMap<Vec<u8>, u32> {
        names.iter().map(|(name, count)| (name.to_vec(), *count)).collect()
    }

    #[test]
    fn the_form_is_the_documented_one() {
        assert_eq!(write(&names(&[(b"bob", 2)])), b"\x01\0\0\0\x02\0\x03bob");
        assert_eq!(write(&names(&[])), b"");
    }

    #[test]
    fn nodes_are_added_up() {
        let mut all = Presence::default();
        add(&mut all, 3, &write(&names(&[(b"anna", 1), (b"bob", 2)])));
        add(&mut all, 5, &write(&names(&[(b"\0\xff", 1), (b"bob", 1)])));
        add(&mut all, 7, b"");
        assert_eq!(all, Presence { subscribers: 15, names: names(&[(b"anna", 1), (b"bob", 3), (b"\0\xff", 1)]) });
    }

    #[test]
    fn what_is_cut_or_of_another_form_is_left_out() {
        let text = write(&names(&[(b"anna", 1), (b"bob", 2)]));
        for end in 0..text.len() {
            let mut all = Presence::default();
            add(&mut all, 1, &text[..end]);
            assert_eq!(all.subscribers, 1);
            assert_eq!(all.names, if end < 11 { names(&[]) } else { names(&[(b"anna", 1)]) }, "{end}");
        }
        let mut all = Presence::default();
        add(&mut all, 1, b"\x02\0\0\0\x02\0\x03bob");
        assert_eq!(all.names, names(&[]));
    }

    #[test]
    fn very_many_names_are_not_all_told() {
        let many = (0..20_000_u32).map(|n| (format!("{n:0100}").into_bytes(), 1)).collect();
        let text = write(&many);
        assert!(text.len() <= MOST && text.len() > MOST - 200);
        let mut all = Presence::default();
        add(&mut all, 20_000, &text);
        assert_eq!((all.subscribers, all.names.len()), (20_000, (MOST - 1) / 106));
    }
}
