// SPDX-License-Identifier: Apache-2.0

//! Errors of a server: what their code means for the command, and for the connection.

use super::resp::Value;
use super::url::Node;

/// Where a cluster says that a slot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The slot.
    pub slot: u16,
    /// The node; none for the one that has answered ("`MOVED 12182 :7324`").
    pub host: Option<String>,
    /// Its port.
    pub port: u16,
}

impl Redirect {
    /// The node, if the one that has answered is at `host`.
    pub fn node(&self, host: &str) -> Node {
        Node { host: self.host.clone().unwrap_or_else(|| host.to_owned()), port: self.port }
    }

    fn parse(rest: &str) -> Option<Self> {
        let (slot, address) = rest.split_once(' ')?;
        // An IPv6 address has no brackets here.
        let (host, port) = address.rsplit_once(':')?;
        Some(Redirect {
            slot: slot.parse().ok().filter(|&slot| slot < super::names::SLOTS)?,
            host: (!host.is_empty()).then(|| host.to_owned()),
            port: port.parse().ok().filter(|&port| port != 0)?,
        })
    }
}

/// An error reply, by its code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorReply {
    /// `READONLY`, `MASTERDOWN`, `UNBLOCKED`: it is not the master, or is not any more. Nothing was done; the connection is to
    /// be closed and the master looked for.
    NotMaster,
    /// `LOADING`, `BUSY`, `NOREPLICAS`, `MISCONF` (what it has cannot be saved, as with a full disk), `CLUSTERDOWN`, `STALE`: not now.
    /// Nothing was done.
    NotNow(String),
    /// `OOM`: there is no memory for what would be written. Nothing was done.
    OutOfMemory,
    /// `MOVED`: another node of the cluster has the slot from now on.
    Moved(Redirect),
    /// `ASK`: another node has this key already.
    Ask(Redirect),
    /// `TRYAGAIN`: the keys of a channel are on two nodes at the moment.
    TryAgain,
    /// `NOSCRIPT`: the server does not know the script.
    NoScript,
    /// `NOAUTH`, `WRONGPASS`, `NOPERM`: user, password or rights.
    Denied(String),
    /// Anything else, which is a fault of a configuration or of this module.
    Other(String),
}

impl ErrorReply {
    /// The error of a reply; `None` for any other reply.
    pub fn of(reply: &Value) -> Option<Self> {
        let Value::Error(text) = reply else { return None };
        Some(Self::parse(text))
    }

    /// The error that a text says.
    pub fn parse(text: &[u8]) -> Self {
        // An error of a script can have the code behind a hash of it: "ERR Error running script ...: @user_script: ...".
        let text = String::from_utf8_lossy(text);
        let (code, rest) = text.split_once(' ').unwrap_or((&text, ""));
        match code {
            "READONLY" | "MASTERDOWN" | "UNBLOCKED" => Self::NotMaster,
            "LOADING" | "BUSY" | "NOREPLICAS" | "MISCONF" | "CLUSTERDOWN" | "STALE" => Self::NotNow(text.into_owned()),
            "OOM" => Self::OutOfMemory,
            "MOVED" => Redirect::parse(rest).map_or_else(|| Self::Other(text.to_string()), Self::Moved),
            "ASK" => Redirect::parse(rest).map_or_else(|| Self::Other(text.to_string()), Self::Ask),
            "TRYAGAIN" => Self::TryAgain,
            "NOSCRIPT" => Self::NoScript,
            "NOAUTH" | "WRONGPASS" | "NOPERM" => Self::Denied(text.into_owned()),
            _ => Self::Other(text.into_owned()),
        }
    }
}

impl std::fmt::Display for ErrorReply {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotMaster => out.write_str("the server is not the master"),
            Self::OutOfMemory => out.write_str("the server has no memory left"),
            Self::Moved(to) | Self::Ask(to) => write!(out, "slot {} is on another node", to.slot),
            Self::TryAgain => out.write_str("the slot is being moved"),
            Self::NoScript => out.write_str("the server has lost the scripts"),
            Self::NotNow(text) | Self::Denied(text) | Self::Other(text) => out.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart() {
        let parse = |text: &str| ErrorReply::parse(text.as_bytes());
        assert_eq!(parse("READONLY You can't write against a read only replica."), ErrorReply::NotMaster);
        assert_eq!(parse("OOM command not allowed"), ErrorReply::OutOfMemory);
        assert_eq!(parse("LOADING Redis is loading"), ErrorReply::NotNow("LOADING Redis is loading".to_owned()));
        assert_eq!(parse("NOSCRIPT No matching script."), ErrorReply::NoScript);
        assert_eq!(parse("WRONGPASS invalid"), ErrorReply::Denied("WRONGPASS invalid".to_owned()));
        assert_eq!(parse("ERR"), ErrorReply::Other("ERR".to_owned()));
        assert_eq!(ErrorReply::of(&Value::Simple(b"OK".to_vec())), None);
    }

    #[test]
    fn redirects_name_a_node() {
        let parse = |text: &str| ErrorReply::parse(text.as_bytes());
        let ErrorReply::Moved(to) = parse("MOVED 3999 127.0.0.1:6381") else { panic!("not moved") };
        assert_eq!(to.node("h"), Node { host: "127.0.0.1".to_owned(), port: 6381 });
        let ErrorReply::Moved(to) = parse("MOVED 12182 :7324") else { panic!("not moved") };
        assert_eq!(to.node("h"), Node { host: "h".to_owned(), port: 7324 });
        let ErrorReply::Ask(to) = parse("ASK 1 ::1:7000") else { panic!("not asked") };
        assert_eq!(to.node("h"), Node { host: "::1".to_owned(), port: 7000 });
        for text in ["MOVED", "MOVED 1", "MOVED 1 h", "MOVED 16384 h:1", "MOVED x h:1", "ASK 1 h:0", "ASK 1 h:65536"] {
            assert!(matches!(parse(text), ErrorReply::Other(_)), "{text}");
        }
    }
}
