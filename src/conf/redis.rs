// SPDX-License-Identifier: Apache-2.0

//! The directives of an engine behind channels.

use std::rc::Rc;

use super::directives::once;
use super::settings::Settings;
use super::{Compiler, Refused, value, words};
use crate::redis::url::{Place, Url};

/// What `websocket_channel_redis` says: one engine, by its URL.
pub type Engine = Option<Rc<Url>>;

pub(super) fn redis<C: Compiler>(settings: &mut Settings<C>, _: &mut C, arguments: &[&[u8]]) -> Result<(), Refused> {
    let engine = match arguments {
        [b"off"] => Ok(None),
        urls if urls.contains(&&b"off"[..]) => Err(Refused::Usage("\"off\" stands alone".to_owned())),
        urls => engine(urls).map(Some),
    };
    once(&mut settings.channel_redis, engine)
}

/// Several URLs name the nodes of one cluster, or Sentinels of one master.
fn engine(urls: &[&[u8]]) -> Result<Rc<Url>, Refused> {
    let mut whole: Option<Url> = None;
    for &text in urls {
        let url = parse(text)?;
        let Some(whole) = &mut whole else {
            whole = Some(url);
            continue;
        };
        let same = (whole.tls, &whole.user, &whole.password, whole.database)
            == (url.tls, &url.user, &url.password, url.database);
        match (&mut whole.place, url.place) {
            (Place::Cluster(nodes), Place::Cluster(more)) if same => nodes.extend(more),
            (Place::Sentinel { sentinels, name }, Place::Sentinel { sentinels: more, name: other })
                if same && *name == other =>
            {
                sentinels.extend(more);
            }
            _ => {
                let reason =
                    "several URLs are nodes of one cluster, or Sentinels of one master; two servers are no engine";
                return Err(Refused::Usage(reason.to_owned()));
            }
        }
    }
    whole.map(Rc::new).ok_or_else(|| Refused::Usage("the URL of a server is missing".to_owned()))
}

fn parse(text: &[u8]) -> Result<Url, Refused> {
    // A password is in no log, not even where the URL is wrong.
    let hidden = || hidden(text).into_bytes();
    let url = std::str::from_utf8(text).map_err(|_| Refused::value(&hidden(), "a URL in UTF-8"))?;
    Url::parse(url).map_err(|expected| Refused::value(&hidden(), expected.0))
}

/// The text without what stands before an "@".
fn hidden(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://...@{rest}"),
        (None, Some((_, rest))) => format!("...@{rest}"),
        (_, None) => text.into_owned(),
    }
}

/// The beginning of all names in the engine: at most 64 octets, and none of them a brace, which would be taken for a hash tag.
pub(super) fn prefix(text: &[u8]) -> Result<Rc<[u8]>, Refused> {
    if text.len() > 64 || text.iter().any(|octet| matches!(octet, b'{' | b'}')) {
        return Err(Refused::value(text, "at most 64 octets without braces"));
    }
    Ok(Rc::from(text))
}

pub(super) fn file(text: &[u8]) -> Result<Option<Rc<[u8]>>, Refused> {
    if text.is_empty() {
        return Err(Refused::value(text, "a file"));
    }
    words::no_switch(text, "the file whose first line is the password")?;
    Ok(Some(Rc::from(text)))
}

/// The user of a Sentinel.
pub(super) fn user(text: &[u8]) -> Result<Option<String>, Refused> {
    match std::str::from_utf8(text) {
        Ok(user) if !user.is_empty() && !user.contains([' ', '\0']) => Ok(Some(user.to_owned())),
        _ => Err(Refused::value(text, "the name of a user")),
    }
}

/// The name of a server; no request is there whose variables it could have.
pub(super) fn tls_name(text: &[u8]) -> Result<Option<Rc<[u8]>>, Refused> {
    if text.is_empty() || text.iter().any(|octet| matches!(octet, b'$' | 0)) {
        return Err(Refused::value(text, "a name without variables"));
    }
    words::no_switch(text, "a name; without the directive it is that of the address")?;
    Ok(Some(Rc::from(text)))
}

/// A time that is not endless: a publisher never waits longer.
pub(super) fn timeout(text: &[u8]) -> Result<u64, Refused> {
    match value::time(text)? {
        0 => Err(Refused::value(text, "a time longer than 0")),
        time => Ok(time),
    }
}
