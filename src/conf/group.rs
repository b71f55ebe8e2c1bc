// SPDX-License-Identifier: Apache-2.0

//! Limits of a group of channels that a request sets.

use super::{Refused, count, value};
use crate::channel::store::{Change, GroupChange};

/// Reads `name=value` pairs that are joined by `&`: the query of a request, or the body that a form sends. The names are
/// those of `websocket_channel_group_limits`, with or without `max_` before them; an empty value gives the limit back to
/// the locations. `others` tells whether there may be other names: in a query they may be for something else.
///
/// # Errors
///
/// [`Refused::Value`] for anything else, and for a name that is there twice.
pub fn group_change(query: &[u8], others: bool, change: &mut GroupChange) -> Result<(), Refused> {
    for pair in query.split(|&octet| octet == b'&').filter(|pair| !pair.is_empty()) {
        let equals = pair.iter().position(|&octet| octet == b'=');
        let (name, text) = equals.map_or((pair, None), |at| (&pair[..at], Some(&pair[at + 1..])));
        let read = match (name.strip_prefix(b"max_").unwrap_or(name), text) {
            (b"channels", Some(text)) => set(&mut change.channels, text, number),
            (b"subscribers", Some(text)) => set(&mut change.subscribers, text, number),
            (b"messages", Some(text)) => set(&mut change.messages, text, number),
            (b"bytes", Some(text)) => set(&mut change.bytes, text, value::size),
            _ if others => Ok(()),
            _ => Err("\"channels=number\", \"subscribers=number\", \"messages=number\" or \"bytes=size\"".to_owned()),
        };
        read.map_err(|expected| Refused::value(pair, expected))?;
    }
    Ok(())
}

fn number(text: &[u8]) -> Result<u32, Refused> {
    count(text).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}

fn set<T>(limit: &mut Change<T>, text: &[u8], read: impl FnOnce(&[u8]) -> Result<T, Refused>) -> Result<(), String> {
    if !matches!(limit, Change::Keep) {
        return Err("each limit once".to_owned());
    }
    *limit = match text {
        b"" => Change::Location,
        text => Change::To(read(text).map_err(|refused| refused.expected().to_owned())?),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(query: &str) -> Option<GroupChange> {
        let mut change = GroupChange::default();
        group_change(query.as_bytes(), false, &mut change).ok().map(|()| change)
    }

    #[test]
    fn limits_are_set_given_back_and_left() {
        assert_eq!(change(""), Some(GroupChange::default()));
        let expected = GroupChange {
            channels: Change::To(15),
            subscribers: Change::Location,
            messages: Change::Keep,
            bytes: Change::To(10 << 20),
        };
        assert_eq!(change("max_channels=15&subscribers=&bytes=10m"), Some(expected));
        assert_eq!(change("&max_bytes=10m&max_subscribers=&&channels=15"), Some(expected));
        for query in [
            "channels",
            "channels=x",
            "channels=-1",
            "channels=4294967296",
            "bytes=1t",
            "subs=1",
            "=1",
            "max_max_bytes=1",
        ] {
            assert_eq!(change(query), None, "{query}");
        }
        assert_eq!(change("channels=1&max_channels=1"), None, "twice");
        let mut change = GroupChange::default();
        assert_eq!(group_change(b"group=a&subs=1&x&messages=2", true, &mut change), Ok(()));
        assert_eq!(change, GroupChange { messages: Change::To(2), ..GroupChange::default() });
        assert!(group_change(b"group=a&bytes=x", true, &mut change).is_err());
    }
}
