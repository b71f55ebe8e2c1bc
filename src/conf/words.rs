// SPDX-License-Identifier: Apache-2.0

//! Words that would be taken as something that nobody means: a mode as the id of a channel, "off" as the name of a group or of
//! a program. They are refused with what was meant.

use super::Refused;

/// Parameters that `websocket_channel` or another directive has, and that are no part of an id.
const PARAMETERS: [&str; 9] = ["mode", "id", "channel", "group", "length", "time", "start", "history", "transports"];

/// What `mode=` can say.
const MODES: [&str; 5] = ["sub", "pub", "pubsub", "info", "subpub"];

/// A value that is free text but cannot be a switch. `meant` says what is to be written in its place.
///
/// # Errors
///
/// [`Refused::Wrong`].
pub(super) fn no_switch(value: &[u8], meant: &str) -> Result<(), Refused> {
    if [&b"on"[..], b"off", b"none"].iter().any(|word| value.eq_ignore_ascii_case(word)) {
        Err(wrong(value, format!("it is not a switch: {meant}")))
    } else {
        Ok(())
    }
}

/// The ids of a channel, with or without a `mode=` beside them.
///
/// # Errors
///
/// [`Refused::Wrong`].
pub(super) fn ids(ids: &[&[u8]], has_mode: bool) -> Result<(), Refused> {
    for &id in ids {
        no_switch(id, "a location without channels is one without the directive")?;
        let word = MODES.iter().find(|mode| id.eq_ignore_ascii_case(mode.as_bytes()));
        if let Some(word) = word.filter(|_| !has_mode) {
            let word = if *word == "subpub" { "pubsub" } else { word };
            return Err(wrong(
                id,
                format!(
                    "\"mode={word}\" was meant; where it is the id of a channel, say which mode, such as \"mode=sub\""
                ),
            ));
        }
        let name = id.split(|octet| matches!(octet, b'=' | b':')).next().filter(|name| name.len() < id.len());
        let known = name.and_then(|name| PARAMETERS.iter().find(|known| name.eq_ignore_ascii_case(known.as_bytes())));
        match known {
            Some(&"mode") => {
                return Err(wrong(id, "the mode is written \"mode=sub\", \"mode=pub\" or \"mode=pubsub\""));
            }
            Some(&("id" | "channel")) => return Err(wrong(id, "an id stands by itself, without a name")),
            Some(&"group") => return Err(wrong(id, "the group is that of \"websocket_channel_group\"")),
            Some(&("length" | "time" | "history")) => {
                return Err(wrong(id, "what is kept is said by \"websocket_channel_history\""));
            }
            Some(&"start") => return Err(wrong(id, "where to begin is said by \"websocket_channel_start\"")),
            Some(_) => return Err(wrong(id, "transports are those of \"websocket_channel_transports\"")),
            None => {}
        }
        if id.ends_with(b",") {
            return Err(wrong(id, "ids are separated by blanks, without commas"));
        }
    }
    Ok(())
}

/// The file or directory of tokens.
///
/// # Errors
///
/// [`Refused`].
pub(super) fn tokens(value: &[u8]) -> Result<(), Refused> {
    if value.is_empty() {
        return Err(Refused::value(value, "a file, or a directory with a slash at its end"));
    }
    if value.contains(&b'$') {
        return Err(wrong(value, "it is one file or directory for all requests, without variables"));
    }
    no_switch(value, "the file or directory that the tokens are in")
}

/// The address of a service: no URL, no path, no lonely port.
///
/// # Errors
///
/// [`Refused::Wrong`].
pub(super) fn address(value: &[u8]) -> Result<(), Refused> {
    // "on" and "none" may be the name of an "upstream" block.
    if value.eq_ignore_ascii_case(b"off") {
        return Err(wrong(
            value,
            "it is not a switch: a location without a service is one without the directive".to_owned(),
        ));
    }
    let text = String::from_utf8_lossy(value);
    if let Some((scheme, rest)) = text.split_once("://") {
        let host = if rest.starts_with("unix:") { rest } else { rest.split('/').next().unwrap_or_default() };
        let tls =
            if matches!(scheme, "https" | "wss" | "tls" | "ssl") { "; TLS is \"websocket_tcp_ssl on\"" } else { "" };
        return Err(wrong(value, format!("an address has no scheme: \"{host}\"{tls}")));
    }
    if value.starts_with(b"/") {
        return Err(wrong(value, format!("a unix socket is \"unix:{text}\"")));
    }
    if value.iter().all(u8::is_ascii_digit) {
        return Err(wrong(value, format!("a port needs a host: \"127.0.0.1:{text}\"")));
    }
    if !value.starts_with(b"unix:") && value.contains(&b'/') {
        return Err(wrong(
            value,
            "an address has no path; \"host:port\", \"unix:/path\", or the name of an upstream block",
        ));
    }
    Ok(())
}

/// An origin with variables, of which only the rest is known: whatever they are, it has no path and is not the address of a
/// WebSocket.
///
/// # Errors
///
/// [`Refused::Wrong`].
pub(super) fn origin_template(value: &[u8]) -> Result<(), Refused> {
    let text = String::from_utf8_lossy(value);
    let (scheme, rest) = text.split_once("://").unwrap_or(("", &text));
    for (address, page) in [("ws", "http"), ("wss", "https")] {
        if scheme.eq_ignore_ascii_case(address) {
            return Err(wrong(value, format!("the origin is that of the page: \"{page}://{rest}\"")));
        }
    }
    match rest.split_once('/') {
        Some((host, _)) => Err(wrong(value, format!("an origin has no path, here it ends with \"{host}\""))),
        None => Ok(()),
    }
}

pub(super) fn wrong(value: &[u8], reason: impl Into<String>) -> Refused {
    Refused::Wrong { value: String::from_utf8_lossy(value).into_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(result: Result<(), Refused>) -> String {
        match result {
            Err(Refused::Wrong { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn modes_and_parameters_are_no_ids() {
        for (words, has_mode, meant) in [
            (&["x", "pubsub"][..], false, "\"mode=pubsub\" was meant"),
            (&["x", "Pub"], false, "\"mode=pub\""),
            (&["sub", "x"], false, "\"mode=sub\""),
            (&["pubsub"], false, "\"mode=pubsub\""),
            (&["x", "subpub"], false, "\"mode=pubsub\""),
            (&["x", "MODE=pub"], false, "\"mode=pub\""),
            (&["x", "mode:pub"], true, "\"mode=pub\""),
            (&["id=x"], false, "by itself"),
            (&["x", "length=5"], true, "websocket_channel_history"),
            (&["x", "group=a"], false, "websocket_channel_group"),
            (&["x", "off"], true, "not a switch"),
            (&["a,", "b"], false, "blanks"),
        ] {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            let reason = reason(ids(&words, has_mode));
            assert!(reason.contains(meant), "{words:?}: {reason}");
        }
        for (words, has_mode) in
            [(&["x", "y"][..], false), (&["pub"], true), (&["room=5", "a:b", "subscribers", "$arg_id"], false)]
        {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            assert_eq!(ids(&words, has_mode), Ok(()), "{words:?}");
        }
    }

    #[test]
    fn origins_with_variables() {
        for (value, meant) in [
            ("wss://$host", "\"https://$host\""),
            ("WS://$host:81", "\"http://$host:81\""),
            ("https://$host/", "no path"),
            ("$host/chat", "no path"),
        ] {
            let reason = reason(origin_template(value.as_bytes()));
            assert!(reason.contains(meant), "{value}: {reason}");
        }
        for value in ["$origin", "https://$host", "$scheme://$host:81", "*.$domain"] {
            assert_eq!(origin_template(value.as_bytes()), Ok(()), "{value}");
        }
    }

    #[test]
    fn addresses() {
        for (value, meant) in [
            ("http://127.0.0.1:80/", "\"127.0.0.1:80\""),
            ("wss://a.example:443", "\"a.example:443\"; TLS"),
            ("tcp://$arg_host:80", "\"$arg_host:80\""),
            ("http://unix:/run/x", "\"unix:/run/x\""),
            ("/run/x.sock", "\"unix:/run/x.sock\""),
            ("5901", "\"127.0.0.1:5901\""),
            ("localhost:80/path", "no path"),
            ("off", "not a switch"),
        ] {
            let reason = reason(address(value.as_bytes()));
            assert!(reason.contains(meant), "{value}: {reason}");
        }
        for value in ["127.0.0.1:80", "[::1]:80", "unix:/run/x", "backend", "$target", "$a:80"] {
            assert_eq!(address(value.as_bytes()), Ok(()), "{value}");
        }
    }
}
