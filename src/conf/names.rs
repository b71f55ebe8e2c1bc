// SPDX-License-Identifier: Apache-2.0

//! `websocket_channel_names`: which channels clients may name themselves, and what they may do with them.

use super::choices::ChannelMode;
use super::settings::{NameMode, NamePattern, NameRule, Settings};
use super::{Compiler, Refused, value, words};

/// The most that `websocket_channel_max_subscriptions` can say: a client's subscriptions are looked at one by one.
pub const MOST_SUBSCRIPTIONS: u64 = 1024;

/// What `mode=` can say.
const MODES: &[(&str, Option<ChannelMode>)] = &[
    ("sub", Some(ChannelMode::Sub)),
    ("pub", Some(ChannelMode::Pub)),
    ("pubsub", Some(ChannelMode::PubSub)),
    ("info", Some(ChannelMode::Info)),
    ("off", None),
];

/// What a mode is called; an empty text, as that of a `map` without a default, is none.
///
/// # Errors
///
/// [`Refused::Value`].
pub fn mode(text: &[u8]) -> Result<Option<ChannelMode>, Refused> {
    if text.is_empty() { Ok(None) } else { value::choice(text, MODES) }
}

/// Several lines of one level add up, in their order.
pub(super) fn names<C: Compiler>(
    settings: &mut Settings<C>,
    compiler: &mut C,
    arguments: &[&[u8]],
) -> Result<(), Refused> {
    if arguments == [b"off"] {
        if settings.channel_names.is_some() {
            return Err(Refused::Usage("\"off\" stands alone".to_owned()));
        }
        settings.channel_names = Some([].into());
        return Ok(());
    }
    if settings.channel_names.as_ref().is_some_and(|rules| rules.is_empty()) {
        return Err(Refused::Usage("\"off\" stands alone".to_owned()));
    }
    let mut said = None;
    let mut patterns = Vec::with_capacity(arguments.len());
    for &argument in arguments {
        match argument.strip_prefix(b"mode=") {
            Some(_) if said.is_some() => return Err(Refused::value(argument, "one \"mode=\"")),
            Some(word) if word.contains(&b'$') => said = Some(NameMode::Template(compiler.compile(word)?)),
            Some(word) => said = Some(NameMode::Fixed(value::choice(word, MODES)?)),
            None => patterns.push(argument),
        }
    }
    if patterns.is_empty() {
        return Err(Refused::Usage("the name of a channel, or a regular expression, is missing".to_owned()));
    }
    let is_name = |pattern: &&[u8]| !pattern.starts_with(b"~");
    let names: Vec<&[u8]> = patterns.iter().copied().filter(is_name).collect();
    words::ids(&names, said.is_some())?;
    let said = said.unwrap_or(NameMode::Fixed(Some(ChannelMode::Sub)));
    let mut rules: Vec<NameRule<C>> = settings.channel_names.take().map(|rules| rules.to_vec()).unwrap_or_default();
    for pattern in patterns {
        let name = match pattern {
            b"" => return Err(Refused::value(pattern, "the name of a channel, or a regular expression after \"~\"")),
            b"~" | b"~*" => return Err(Refused::value(pattern, "a regular expression after \"~\"")),
            // A regular expression is no template: its "$" is an anchor.
            [b'~', b'*', pattern @ ..] => NamePattern::Regex(compiler.regex(pattern, true)?),
            [b'~', pattern @ ..] => NamePattern::Regex(compiler.regex(pattern, false)?),
            name => NamePattern::Name(compiler.compile(name)?),
        };
        rules.push(NameRule { name, mode: said.clone() });
    }
    settings.channel_names = Some(rules.into());
    Ok(())
}

// Derived, it would ask for a compiler that can be cloned.
impl<C: Compiler> Clone for NameRule<C> {
    fn clone(&self) -> Self {
        NameRule { name: self.name.clone(), mode: self.mode.clone() }
    }
}

impl<C: Compiler> Clone for NamePattern<C> {
    fn clone(&self) -> Self {
        match self {
            NamePattern::Name(template) => NamePattern::Name(template.clone()),
            NamePattern::Regex(regex) => NamePattern::Regex(regex.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_of_a_map() {
        assert_eq!(mode(b""), Ok(None));
        assert_eq!(mode(b"off"), Ok(None));
        assert_eq!(mode(b"sub"), Ok(Some(ChannelMode::Sub)));
        assert_eq!(mode(b"info"), Ok(Some(ChannelMode::Info)));
        for text in ["1", "on", "SUB", "sub pub"] {
            assert!(mode(text.as_bytes()).is_err(), "{text}");
        }
    }
}
