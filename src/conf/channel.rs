//! The directives of channels whose arguments need more than one rule.

use std::rc::Rc;

use super::choices::{CHANNEL_MODES, CHANNEL_TRANSPORTS, ChannelMode, Transports};
use super::directives::{at_least, compile_all, connect, once};
use super::settings::{Channel, Endpoint, History, HistoryLimit, Settings};
use super::{Compiler, Refused, value};
use crate::channel::position::{MAX_POSITIONS, Start};

/// A zone below this size has hardly any room beside its tables.
const LEAST_ZONE: u64 = 1 << 20;

/// Cells are numbered in 32 bits; this is far below what they can address.
const MOST_ZONE: u64 = 64 << 30;

pub(super) fn channel<C: Compiler>(
    settings: &mut Settings<C>,
    compiler: &mut C,
    arguments: &[&[u8]],
) -> Result<(), Refused> {
    let mut mode = None;
    let mut ids = Vec::with_capacity(arguments.len());
    for &argument in arguments {
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
    if ids.len() > MAX_POSITIONS {
        return Err(Refused::Usage(format!("there are more than {MAX_POSITIONS} ids")));
    }
    let ids = compile_all(compiler, &ids)?;
    connect(settings, Endpoint::Channel(Channel { ids, mode: mode.unwrap_or(ChannelMode::Sub) }))
}

pub(super) fn zone<C: Compiler>(settings: &mut Settings<C>, _: &mut C, arguments: &[&[u8]]) -> Result<(), Refused> {
    let text = arguments[0];
    let size = value::size(text).and_then(|size| at_least(text, size, LEAST_ZONE)).and_then(|size| match size {
        ..=MOST_ZONE => Ok(size),
        _ => Err(Refused::value(text, format!("a size up to {}g", MOST_ZONE >> 30))),
    });
    once(&mut settings.channel_zone, size)
}

pub(super) fn history<C: Compiler>(
    settings: &mut Settings<C>,
    compiler: &mut C,
    arguments: &[&[u8]],
) -> Result<(), Refused> {
    let mut history = History::default();
    let mut seen = [false; 2];
    for &argument in arguments {
        let (nth, limit) = if let Some(text) = argument.strip_prefix(b"length=") {
            (0, limit(compiler, text, history_length))
        } else if let Some(text) = argument.strip_prefix(b"time=") {
            (1, limit(compiler, text, value::time))
        } else {
            return Err(Refused::value(argument, "\"length=number\" or \"time=time\""));
        };
        if std::mem::replace(&mut seen[nth], true) {
            return Err(Refused::value(argument, "each limit once"));
        }
        *[&mut history.length, &mut history.time][nth] = limit?;
    }
    once(&mut settings.channel_history, Ok(history))
}

/// The number of messages in a history.
///
/// # Errors
///
/// [`Refused::Value`] for anything but a number.
pub fn history_length(text: &[u8]) -> Result<u64, Refused> {
    value::number(text, 0, u64::from(u32::MAX))
}

fn limit<C: Compiler>(
    compiler: &mut C,
    text: &[u8],
    read: fn(&[u8]) -> Result<u64, Refused>,
) -> Result<HistoryLimit<C::Template>, Refused> {
    if text.contains(&b'$') {
        compiler.compile(text).map(HistoryLimit::Template)
    } else {
        read(text).map(HistoryLimit::Fixed)
    }
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
    let mut transports = Transports::NONE;
    for &argument in arguments {
        let present = value::choice(argument, CHANNEL_TRANSPORTS)?(&mut transports);
        if std::mem::replace(present, true) {
            return Err(Refused::value(argument, "each transport once"));
        }
    }
    once(&mut settings.channel_transports, Ok(transports))
}

pub(super) fn split<C: Compiler>(settings: &mut Settings<C>, _: &mut C, arguments: &[&[u8]]) -> Result<(), Refused> {
    let delimiter = match arguments[0] {
        [] => Err(Refused::value(b"", "a delimiter")),
        delimiter => Ok(Some(Rc::from(delimiter))),
    };
    once(&mut settings.channel_split, delimiter)
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
    fn lengths() {
        assert_eq!(history_length(b"0"), Ok(0));
        assert_eq!(history_length(b"4294967295"), Ok(u64::from(u32::MAX)));
        assert!(history_length(b"4294967296").is_err());
        assert!(history_length(b"1k").is_err());
    }
}
