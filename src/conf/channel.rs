// SPDX-License-Identifier: Apache-2.0

//! The directives of channels whose arguments need more than one rule.

use std::rc::Rc;

use super::choices::{CHANNEL_MODES, ChannelMode};
use super::directives::{at_least, compile_all, connect, once};
use super::endpoint::{Channel, EndpointSettings};
use super::settings::{Amount, ChannelEvents, GroupLimits, History, Settings};
use super::{Compiler, Refused, Template, value, words};
use crate::channel::event::Kinds;
use crate::channel::fanout::{MOST_RATE, Rate};
use crate::channel::lock::Unshared;
use crate::channel::position::{MAX_POSITIONS, Start};
use crate::channel::store::{MAX_SLOTS, Store};
use crate::channel::transport::Transport;
use crate::channel::wire::eventsource;

/// A zone below this size has hardly any room beside its tables.
const LEAST_ZONE: u64 = 1 << 20;

/// How long a subscriber that has gone may be waited for, in milliseconds: so long a worker that is told to go may stay.
const MOST_GRACE: u64 = 3_600_000;

pub(super) fn channel<C: Compiler>(
    settings: &mut Settings<C>,
    compiler: &mut C,
    arguments: &[&[u8]],
) -> Result<(), Refused> {
    let mut mode = None;
    let mut ids = Vec::with_capacity(arguments.len());
    let mut publish = Vec::new();
    for &argument in arguments {
        if let Some(id) = argument.strip_prefix(b"publish=") {
            if id.is_empty() {
                return Err(Refused::value(argument, "the id of a channel after \"publish=\""));
            }
            publish.push(id);
            continue;
        }
        match argument.strip_prefix(b"mode=") {
            Some(word) if mode.is_none() => mode = Some(value::choice(word, CHANNEL_MODES)?),
            Some(_) => return Err(Refused::value(argument, "one \"mode=\"")),
            None if argument.is_empty() => return Err(Refused::value(argument, "the id of a channel")),
            None => ids.push(argument),
        }
    }
    if ids.is_empty() {
        return Err(Refused::Usage("the id of a channel is missing".to_owned()));
    }
    words::ids(&ids, mode.is_some() || !publish.is_empty())?;
    words::ids(&publish, true)?;
    if !publish.is_empty() && mode.is_some_and(|mode| mode != ChannelMode::PubSub) {
        let reason = "\"publish=\" is for clients that subscribe to some channels and publish to others (mode=pubsub)";
        return Err(Refused::Usage(reason.to_owned()));
    }
    if ids.len().max(publish.len()) > MAX_POSITIONS {
        return Err(Refused::Usage(format!("there are more than {MAX_POSITIONS} ids")));
    }
    let ids = compile_all(compiler, &ids)?;
    let (publish, otherwise) = match publish.as_slice() {
        [] => (None, ChannelMode::Sub),
        publish => (Some(compile_all(compiler, publish)?), ChannelMode::PubSub),
    };
    connect(settings, EndpointSettings::Channel(Channel { ids, publish, mode: mode.unwrap_or(otherwise) }))
}

pub(super) fn zone<C: Compiler>(settings: &mut Settings<C>, _: &mut C, arguments: &[&[u8]]) -> Result<(), Refused> {
    let text = arguments[0];
    let usable = |size: &u64| usize::try_from(*size).is_ok_and(|size| Store::<Unshared>::is_usable(size, MAX_SLOTS));
    let size = value::size(text).and_then(|size| at_least(text, size, LEAST_ZONE)).and_then(|size| {
        // Places in the zone are numbered in 32 bits.
        Some(size).filter(usable).ok_or_else(|| Refused::value(text, "a size below 32g"))
    });
    once(&mut settings.channel_zone, size)
}

pub(super) fn history<C: Compiler>(
    settings: &mut Settings<C>,
    compiler: &mut C,
    arguments: &[&[u8]],
) -> Result<(), Refused> {
    if arguments.contains(&&b"off"[..]) {
        let alone = if arguments.len() == 1 {
            Ok(History::Off)
        } else {
            Err(Refused::Usage("\"off\" stands alone".to_owned()))
        };
        return once(&mut settings.channel_history, alone);
    }
    let mut history = History::default();
    let amounts = amounts(compiler, arguments, [("length", "number", count), ("time", "time", value::time)]);
    if let History::Kept { length, time } = &mut history {
        let [said_length, said_time] = amounts.map_err(|refused| match refused {
            Refused::Value { value, expected } => Refused::Value { value, expected: format!("{expected}, or \"off\"") },
            other => other,
        })?;
        *length = said_length.unwrap_or_else(|| length.clone());
        *time = said_time.unwrap_or_else(|| time.clone());
    }
    once(&mut settings.channel_history, Ok(history))
}

pub(super) fn group_limits<C: Compiler>(
    settings: &mut Settings<C>,
    compiler: &mut C,
    arguments: &[&[u8]],
) -> Result<(), Refused> {
    let names = [
        ("channels", "number", count as ReadAmount),
        ("subscribers", "number", count),
        ("messages", "number", count),
        ("bytes", "size", value::size),
    ];
    let [channels, subscribers, messages, bytes] =
        amounts(compiler, arguments, names)?.map(|limit| limit.unwrap_or(Amount::Fixed(0)));
    once(&mut settings.channel_group_limits, Ok(GroupLimits { channels, subscribers, messages, bytes }))
}

/// A number of messages, channels or subscribers; 0 for no limit.
///
/// # Errors
///
/// [`Refused::Value`] for anything but a number of 32 bits.
pub fn count(text: &[u8]) -> Result<u64, Refused> {
    value::number(text, 0, u64::from(u32::MAX))
}

type ReadAmount = fn(&[u8]) -> Result<u64, Refused>;

/// Reads arguments `name=amount`, each at most once. A row is a name, what its value is, and how that is read.
fn amounts<C: Compiler, const N: usize>(
    compiler: &mut C,
    arguments: &[&[u8]],
    names: [(&str, &str, ReadAmount); N],
) -> Result<[Option<Amount<C::Template>>; N], Refused> {
    let mut amounts = [const { None }; N];
    for &argument in arguments {
        let value_of = |name: &str| argument.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        let found = names
            .iter()
            .zip(&mut amounts)
            .find_map(|((name, _, read), amount)| value_of(name).map(|text| (text, read, amount)));
        let Some((text, read, amount)) = found else {
            let expected = names.map(|(name, kind, _)| format!("\"{name}={kind}\""));
            return Err(Refused::value(argument, expected.join(" or ")));
        };
        if amount.is_some() {
            return Err(Refused::value(argument, "each limit once"));
        }
        *amount = Some(if text.contains(&b'$') {
            Amount::Template(compiler.compile(text)?)
        } else {
            Amount::Fixed(read(text)?)
        });
    }
    Ok(amounts)
}

pub(super) fn start(text: &[u8]) -> Result<Start, Refused> {
    let count = |digits| {
        value::decimal(digits).and_then(|count| u32::try_from(count).ok()).filter(|&count| count > 0).ok_or_else(|| {
            Refused::value(text, "\"newest\", \"oldest\", or a number of messages such as \"1\" or \"-1\"")
        })
    };
    match text {
        b"newest" => Ok(Start::Newest),
        b"oldest" => Ok(Start::Oldest),
        [b'-', digits @ ..] => count(digits).map(Start::Last),
        digits => count(digits).map(Start::Nth),
    }
}

pub(super) fn transports<C: Compiler>(
    settings: &mut Settings<C>,
    _: &mut C,
    arguments: &[&[u8]],
) -> Result<(), Refused> {
    let mut transports: Vec<Transport> = Vec::with_capacity(arguments.len());
    for &argument in arguments {
        let transport = value::choice(argument, Transport::NAMES)?;
        if transports.contains(&transport) {
            return Err(Refused::value(argument, "each transport once"));
        }
        transports.push(transport);
    }
    once(&mut settings.channel_transports, Ok(transports.into_iter().collect()))
}

pub(super) fn rate<C: Compiler>(settings: &mut Settings<C>, _: &mut C, arguments: &[&[u8]]) -> Result<(), Refused> {
    let rate = match arguments {
        [b"off"] => Ok(None),
        [b"off", ..] | [_, b"off"] => Err(Refused::Usage("\"off\" stands alone".to_owned())),
        arguments => read_rate(arguments).map(Some),
    };
    once(&mut settings.channel_rate, rate)
}

/// `n/s` and `burst=n`, in any order.
fn read_rate(arguments: &[&[u8]]) -> Result<Rate, Refused> {
    let (mut per_second, mut burst) = (None, None);
    for &argument in arguments {
        let number = |digits: &[u8]| value::decimal(digits).filter(|number| (1..=MOST_RATE).contains(number));
        if let Some(digits) = argument.strip_prefix(b"burst=") {
            let wrong = || Refused::value(argument, format!("\"burst=\" with a number from 1 to {MOST_RATE}"));
            if burst.replace(number(digits).ok_or_else(wrong)?).is_some() {
                return Err(Refused::value(argument, "one \"burst=\""));
            }
        } else {
            let wrong = || {
                let expected =
                    format!("messages in a second such as \"10/s\", from \"1/s\" to \"{MOST_RATE}/s\", or \"off\"");
                Refused::value(argument, expected)
            };
            let digits = argument.strip_suffix(b"/s").ok_or_else(wrong)?;
            if per_second.replace(number(digits).ok_or_else(wrong)?).is_some() {
                return Err(Refused::value(argument, "one rate"));
            }
        }
    }
    let Some(per_second) = per_second else {
        return Err(Refused::Usage("the rate is missing, such as \"10/s\"".to_owned()));
    };
    let rate = Rate::new(per_second, burst.unwrap_or(1));
    rate.ok_or_else(|| Refused::Usage("the rate cannot be had".to_owned()))
}

/// The name of an event of an EventSource; empty for none.
pub(super) fn event_name(text: &[u8]) -> Result<Rc<[u8]>, Refused> {
    words::no_switch(text, "the name of an event, or \"\" for none")?;
    if text == eventsource::GAP {
        return Err(words::wrong(text, "\"gap\" is how subscribers are told of lost messages"));
    }
    line(text)
}

/// A text in one line.
pub(super) fn line(text: &[u8]) -> Result<Rc<[u8]>, Refused> {
    if text.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)) || str::from_utf8(text).is_err() {
        return Err(Refused::value(text, "one line of UTF-8"));
    }
    Ok(Rc::from(text))
}

pub(super) fn heartbeat<C: Compiler>(
    settings: &mut Settings<C>,
    _: &mut C,
    arguments: &[&[u8]],
) -> Result<(), Refused> {
    let heartbeat = match arguments {
        [b"off"] => Ok(None),
        [said, answer] => {
            let text = |text: &[u8]| {
                let text = str::from_utf8(text).ok().filter(|text| !text.is_empty()).map(Rc::<str>::from);
                text.ok_or_else(|| Refused::value(said, "two texts that are not empty, in UTF-8"))
            };
            text(said).and_then(|said| Ok(Some((said, text(answer)?))))
        }
        _ => Err(Refused::Usage("the message of the client and the answer to it, or \"off\"".to_owned())),
    };
    once(&mut settings.client_heartbeat, heartbeat)
}

pub(super) fn split<C: Compiler>(settings: &mut Settings<C>, _: &mut C, arguments: &[&[u8]]) -> Result<(), Refused> {
    words::no_switch(arguments[0], "a delimiter such as \",\"; without the directive ids are not divided")?;
    let delimiter = match arguments[0] {
        [] => Err(Refused::value(b"", "a delimiter")),
        delimiter => Ok(Some(Rc::from(delimiter))),
    };
    once(&mut settings.channel_split, delimiter)
}

/// The location of a hook; `off` for none, where the level above names one.
pub(super) fn hook<C: Compiler>(compiler: &mut C, text: &[u8]) -> Result<Option<C::Template>, Refused> {
    if text == b"off" {
        return Ok(None);
    }
    let template = compiler.compile(text)?;
    match template.constant() {
        Some([b'/', ..]) | None => Ok(Some(template)),
        Some(_) => Err(Refused::value(text, "a URI that begins with \"/\", or \"off\"")),
    }
}

/// The id of a channel, and of what it is told; `off` for none, where the level above names one.
pub(super) fn events<C: Compiler>(
    compiler: &mut C,
    arguments: &[&[u8]],
) -> Result<Option<ChannelEvents<C::Template>>, Refused> {
    let (id, options) = match arguments {
        [b"off"] => return Ok(None),
        [b"off", ..] => return Err(Refused::Usage("\"off\" stands alone".to_owned())),
        [id, options @ ..] if !id.is_empty() => (*id, options),
        _ => return Err(Refused::value(b"", "the id of a channel, or \"off\"")),
    };
    words::no_switch(id, "the id of a channel, or \"off\"")?;
    if Kinds::named(id).is_some() || id.starts_with(b"grace=") {
        return Err(words::wrong(
            id,
            "the id of a channel comes first; a channel that is called so needs another name",
        ));
    }
    let (mut kinds, mut grace) = (Kinds::NONE, None);
    for &option in options {
        match (Kinds::named(option), option.strip_prefix(b"grace=")) {
            (Some(kind), _) if kinds.has_any(kind) => return Err(Refused::value(option, "each kind once")),
            (Some(kind), _) => kinds = kinds.and(kind),
            (None, Some(time)) if grace.is_none() => grace = Some(value::time(time)?),
            (None, _) => {
                let expected = "\"join\", \"leave\", \"publish\" or \"delete\", and one \"grace=\" with a time";
                return Err(Refused::value(option, expected));
            }
        }
    }
    if kinds == Kinds::NONE {
        kinds = Kinds::ALL;
    }
    let grace = grace.unwrap_or(0);
    if grace > 0 && !kinds.has_any(Kinds::comings()) {
        return Err(Refused::Usage("\"grace=\" is for \"join\" and \"leave\"".to_owned()));
    }
    if grace > MOST_GRACE {
        return Err(Refused::Usage("\"grace=\" is at most one hour".to_owned()));
    }
    Ok(Some(ChannelEvents { id: compiler.compile(id)?, kinds, grace }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts() {
        assert_eq!(start(b"newest"), Ok(Start::Newest));
        assert_eq!(start(b"oldest"), Ok(Start::Oldest));
        assert_eq!(start(b"3"), Ok(Start::Nth(3)));
        assert_eq!(start(b"-2"), Ok(Start::Last(2)));
        for text in ["", "0", "-0", "-", "+1", "1.5", "last", "--1", "4294967296"] {
            assert!(start(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn counts() {
        assert_eq!(count(b"0"), Ok(0));
        assert_eq!(count(b"4294967295"), Ok(u64::from(u32::MAX)));
        assert!(count(b"4294967296").is_err());
        assert!(count(b"1k").is_err());
    }
}
