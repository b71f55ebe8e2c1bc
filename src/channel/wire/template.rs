// SPDX-License-Identifier: Apache-2.0

//! What a location makes of its messages: `websocket_channel_message_template`.
//!
//! A template is read once, with the configuration. What of it depends on the request is put into it when somebody subscribes; what
//! then remains are the message, its id and its channel. A message is escaped for the place in the template where it stands.

use std::borrow::Cow;

use crate::channel::message::Message;
use crate::json;
use crate::json::valid::is_value;
use crate::ws::frame::MessageKind;

/// Octets of the name of a function that a JSONP client may name.
const MOST_CALLBACK: usize = 128;

/// What a template is, and so how values are escaped in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateForm {
    /// Text, in which nothing has a meaning.
    Text,
    /// JSON.
    Json,
    /// A call of a JavaScript function with JSON as its argument.
    Jsonp,
}

impl TemplateForm {
    /// What they are called in the configuration.
    pub const NAMES: &'static [(&'static str, Self)] =
        &[("json", Self::Json), ("text", Self::Text), ("jsonp", Self::Jsonp)];

    /// What a template is of which nobody says it: JSON begins with a brace or a bracket; JSONP is a name and such a thing in
    /// parentheses.
    pub fn of(template: &[u8]) -> Self {
        let text = template.trim_ascii();
        let is_json = |text: &[u8]| matches!(text.trim_ascii_start().first(), Some(b'{' | b'['));
        if is_json(text) {
            return Self::Json;
        }
        let is_name = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'$' | b'.' | b'{' | b'}');
        let name = text.iter().take_while(|octet| is_name(**octet)).count();
        match text.get(name..) {
            Some([b'(', argument @ ..]) if name > 0 && is_json(argument) && end_of_call(argument).is_some() => {
                Self::Jsonp
            }
            _ => Self::Text,
        }
    }
}

/// What stands before the parenthesis that ends a call, and a semicolon.
fn end_of_call(text: &[u8]) -> Option<&[u8]> {
    let text = text.trim_ascii_end();
    text.strip_suffix(b";").unwrap_or(text).trim_ascii_end().strip_suffix(b")")
}

/// What differs from message to message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// `$websocket_message`.
    Message,
    /// `$websocket_message_id`: the position after the message.
    Id,
    /// `$websocket_channel_id`.
    Channel,
}

impl Variable {
    /// The variable of a name.
    pub fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"websocket_message" => Self::Message,
            b"websocket_message_id" => Self::Id,
            b"websocket_channel_id" => Self::Channel,
            _ => return None,
        })
    }
}

/// Where in a template a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In text.
    Text,
    /// In JSON, in a string.
    Quoted,
    /// In JSON, where a value is.
    Bare,
    /// In JSONP, as the name of the function.
    Callback,
}

/// A piece of a template as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'t> {
    /// Text of the template's own.
    Literal(&'t [u8]),
    /// A variable.
    Variable {
        /// Its name.
        name: &'t [u8],
        /// It as it is written, with the dollar sign.
        written: &'t [u8],
        /// Where it stands.
        place: Place,
    },
}

/// Divides a template.
///
/// # Errors
///
/// What is wrong with it.
pub fn parts(text: &[u8], form: TemplateForm) -> Result<Vec<Part<'_>>, &'static str> {
    let mut parts = Vec::new();
    let mut context = Context { form, in_call: form == TemplateForm::Json, in_string: false, is_escaped: false };
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'$', rest) {
        let (literal, tail) = rest.split_at(at);
        if !literal.is_empty() {
            context.pass(literal);
            parts.push(Part::Literal(literal));
        }
        let tail = tail.get(1..).unwrap_or_default();
        let is_name = |octet: &u8| octet.is_ascii_alphanumeric() || *octet == b'_';
        let braced = tail.first() == Some(&b'{');
        let begin = usize::from(braced);
        let length = tail.get(begin..).unwrap_or_default().iter().take_while(|octet| is_name(octet)).count();
        let end = begin + length;
        if length == 0 {
            return Err("\"$\" begins the name of a variable");
        }
        if braced && tail.get(end) != Some(&b'}') {
            return Err("a name in braces has no closing brace");
        }
        let whole = 1 + end + begin;
        parts.push(Part::Variable {
            name: tail.get(begin..end).unwrap_or_default(),
            written: rest.get(at..at + whole).unwrap_or_default(),
            place: context.place(),
        });
        context.is_escaped = false;
        rest = rest.get(at + whole..).unwrap_or_default();
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest));
    }
    Ok(parts)
}

/// Where in a template a reader is.
struct Context {
    form: TemplateForm,
    /// The parenthesis of JSONP has been opened, or there is none.
    in_call: bool,
    in_string: bool,
    is_escaped: bool,
}

impl Context {
    fn pass(&mut self, literal: &[u8]) {
        for &octet in literal {
            let was_escaped = std::mem::take(&mut self.is_escaped);
            match octet {
                b'(' if !self.in_call => self.in_call = true,
                b'"' if self.in_call && !was_escaped => self.in_string = !self.in_string,
                b'\\' if self.in_string && !was_escaped => self.is_escaped = true,
                _ => {}
            }
        }
    }

    fn place(&self) -> Place {
        match (self.form, self.in_call, self.in_string) {
            (TemplateForm::Text, ..) => Place::Text,
            (TemplateForm::Json | TemplateForm::Jsonp, true, true) => Place::Quoted,
            (TemplateForm::Json | TemplateForm::Jsonp, true, false) => Place::Bare,
            (TemplateForm::Json | TemplateForm::Jsonp, false, _) => Place::Callback,
        }
    }
}

/// Whether the template is what it is said to be, whatever its variables are.
pub fn is_of_form(parts: &[Part<'_>], form: TemplateForm) -> bool {
    // Where both of these may be, any value may: it is no part of a number, and no name of a member.
    [&b"0"[..], b"\"\""].iter().all(|value| is_sample_of_form(parts, value, form))
}

/// Whether the template is what it is said to be where its variables outside of strings are this.
fn is_sample_of_form(parts: &[Part<'_>], value: &[u8], form: TemplateForm) -> bool {
    let sample = parts.iter().map(|part| match part {
        Part::Literal(literal) => *literal,
        Part::Variable { place: Place::Bare, .. } => value,
        Part::Variable { .. } => b"x",
    });
    let sample = sample.collect::<Vec<_>>().concat();
    let Ok(sample) = str::from_utf8(&sample) else { return false };
    match form {
        TemplateForm::Text => true,
        TemplateForm::Json => is_value(sample),
        TemplateForm::Jsonp => sample.split_once('(').is_some_and(|(name, argument)| {
            let argument = end_of_call(argument.as_bytes()).and_then(|argument| str::from_utf8(argument).ok());
            is_callback(name.trim_ascii().as_bytes()) && argument.is_some_and(is_value)
        }),
    }
}

/// Whether a client may name this function: names of JavaScript with dots between them.
fn is_callback(name: &[u8]) -> bool {
    let is_name = |name: &[u8]| {
        let has_meaning = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'$');
        name.first().is_some_and(|first| !first.is_ascii_digit()) && name.iter().all(has_meaning)
    };
    name.len() <= MOST_CALLBACK && name.split(|&octet| octet == b'.').all(is_name)
}

/// The value of a client is no name of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadCallback;

/// A value as it stands at a place.
///
/// # Errors
///
/// [`BadCallback`].
pub fn escape(value: &[u8], place: Place, form: TemplateForm) -> Result<Vec<u8>, BadCallback> {
    let mut out = Vec::new();
    match place {
        Place::Callback if is_callback(value) => out.extend_from_slice(value),
        Place::Callback => return Err(BadCallback),
        // What a client says must not make something that is no text of it.
        Place::Text => out.extend_from_slice(String::from_utf8_lossy(value).as_bytes()),
        Place::Quoted | Place::Bare => put_json(&mut out, value, place, form),
    }
    Ok(out)
}

/// Appends a value to JSON: between the quotes that are there, or as a value. A value that is JSON itself stays what it is where it
/// has no quotes around it.
fn put_json(out: &mut Vec<u8>, value: &[u8], place: Place, form: TemplateForm) {
    let value = String::from_utf8_lossy(value);
    let mut text = String::with_capacity(value.len() + 2);
    if place == Place::Quoted {
        json::escaped(&mut text, &value);
    } else if is_value(&value) {
        text.push_str(value.trim_ascii());
    } else {
        json::string(&mut text, &value);
    }
    out.extend_from_slice(
        if form == TemplateForm::Jsonp { in_script(&text) } else { Cow::Borrowed(&*text) }.as_bytes(),
    );
}

/// JSON as part of a script. What would end the script or a line of it can only be in a string.
fn in_script(json: &str) -> Cow<'_, str> {
    if !json.contains(['<', '\u{2028}', '\u{2029}']) {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        match character {
            '<' => text.push_str("\\u003c"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            other => text.push(other),
        }
    }
    Cow::Owned(text)
}

/// A piece of a template for the messages of a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text that is the same with every message.
    Literal(Box<[u8]>),
    /// What differs.
    Value(Variable, Place),
}

/// What becomes of the messages of a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    form: TemplateForm,
    pieces: Box<[Piece]>,
    /// Others do not have the same one: it contains something of the subscriber's request.
    is_own: bool,
}

impl Template {
    /// Of these pieces. `is_own` if what there is of the subscriber's request is among them.
    pub fn new(form: TemplateForm, pieces: Vec<Piece>, is_own: bool) -> Self {
        Self { form, pieces: pieces.into(), is_own }
    }

    /// Whether it contains something of the subscriber's request.
    pub fn is_own(&self) -> bool {
        self.is_own
    }

    /// Whether it has this variable.
    pub fn has(&self, wanted: Variable) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Value(variable, _) if *variable == wanted))
    }

    /// What a message becomes.
    pub fn render(&self, message: &Message, id: &str, channel: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.data().len() + 64);
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text),
                Piece::Value(variable, place) => {
                    let value = match variable {
                        Variable::Message => message.data(),
                        Variable::Id => id.as_bytes(),
                        Variable::Channel => channel,
                    };
                    match (variable, place) {
                        // The message is what it is.
                        (Variable::Message, Place::Text | Place::Callback) => out.extend_from_slice(value),
                        (_, Place::Text | Place::Callback) => {
                            out.extend_from_slice(String::from_utf8_lossy(value).as_bytes());
                        }
                        // An id is a text, even where it looks like a number.
                        (Variable::Id | Variable::Channel, Place::Bare) => {
                            out.push(b'"');
                            put_json(&mut out, value, Place::Quoted, self.form);
                            out.push(b'"');
                        }
                        (_, Place::Bare | Place::Quoted) => put_json(&mut out, value, *place, self.form),
                    }
                }
            }
        }
        out
    }

    /// What a message is for a WebSocket then.
    pub fn kind(&self, message: &Message) -> MessageKind {
        match self.form {
            TemplateForm::Text => message.kind,
            TemplateForm::Json | TemplateForm::Jsonp => MessageKind::Text,
        }
    }

    /// The content type of all messages, where that is not their own.
    pub fn content_type(&self) -> Option<&'static str> {
        match self.form {
            TemplateForm::Text => None,
            TemplateForm::Json => Some("application/json"),
            TemplateForm::Jsonp => Some("application/javascript; charset=utf-8"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::channel::position::{Epoch, MessageId, Offset};

    fn template(text: &str) -> Template {
        let form = TemplateForm::of(text.as_bytes());
        let parts = parts(text.as_bytes(), form).unwrap();
        assert!(is_of_form(&parts, form), "{text}");
        let piece = |part: &Part<'_>| match part {
            Part::Literal(text) => Piece::Literal((*text).into()),
            Part::Variable { name, place, .. } => match Variable::named(name) {
                Some(variable) => Piece::Value(variable, *place),
                None => Piece::Literal(escape(name, *place, form).unwrap().into()),
            },
        };
        Template::new(form, parts.iter().map(piece).collect(), false)
    }

    fn rendered(text: &str, channel: &[u8], data: &[u8]) -> String {
        let id = MessageId { epoch: Epoch(7), offset: Offset(1) };
        let message = Message::for_tests(id, MessageKind::Text, b"", b"", data);
        String::from_utf8(template(text).render(&message, "7:1", channel)).unwrap()
    }

    #[test]
    fn forms_are_told_by_how_they_look() {
        for text in ["{\"a\":1}", " [1]", "{}", "[$websocket_message]"] {
            assert_eq!(TemplateForm::of(text.as_bytes()), TemplateForm::Json, "{text}");
        }
        for text in ["cb({})", "$arg_cb([1]);", "a.b( {} ) ;", "${arg_cb}({\"a\":1})"] {
            assert_eq!(TemplateForm::of(text.as_bytes()), TemplateForm::Jsonp, "{text}");
        }
        for text in ["", "x", "$websocket_channel_id: $websocket_message", "f(x)", "f({", "({})", "a b({})", "\"x\""] {
            assert_eq!(TemplateForm::of(text.as_bytes()), TemplateForm::Text, "{text}");
        }
    }

    #[test]
    fn parts_and_their_places() {
        let places = |text: &str, form| {
            let parts = parts(text.as_bytes(), form).unwrap();
            let place = |part: &Part<'_>| match part {
                Part::Literal(_) => None,
                Part::Variable { place, .. } => Some(*place),
            };
            parts.iter().filter_map(place).collect::<Vec<_>>()
        };
        use Place::{Bare, Callback, Quoted, Text};
        assert_eq!(places("$a \"$b\" ${c}d", TemplateForm::Text), [Text, Text, Text]);
        assert_eq!(
            places(r#"{"$a":$b,"x\"$c":["$d\\",$e]}"#, TemplateForm::Json),
            [Quoted, Bare, Quoted, Quoted, Bare]
        );
        assert_eq!(places(r#"$a({"b":"$c","d":$e})"#, TemplateForm::Jsonp), [Callback, Quoted, Bare]);
        assert_eq!(
            parts(b"a${b}c$d_1-", TemplateForm::Text).unwrap(),
            [
                Part::Literal(b"a"),
                Part::Variable { name: b"b", written: b"${b}", place: Text },
                Part::Literal(b"c"),
                Part::Variable { name: b"d_1", written: b"$d_1", place: Text },
                Part::Literal(b"-"),
            ]
        );
        for text in ["$", "a$ b", "${}", "${a", "${a-b}"] {
            assert!(parts(text.as_bytes(), TemplateForm::Text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_template_is_of_its_form() {
        let is = |text: &str, form| is_of_form(&parts(text.as_bytes(), form).unwrap(), form);
        assert!(is(r#"{"a":$b,"c":"$d"}"#, TemplateForm::Json));
        for text in [
            r#"{"a":"$b""#,
            "{a:$b}",
            "$a $b",
            r#"{"a":"\$b"}"#,
            "{\"a\":1} x",
            "[1$b]",
            "{$b:1}",
            "[$a$b]",
            "[\"\"$b]",
        ] {
            assert!(!is(text, TemplateForm::Json), "{text}");
        }
        assert!(is("$a($b);", TemplateForm::Jsonp) && is("x.y( {\"a\":1} )", TemplateForm::Jsonp));
        for text in ["$b", "1x({})", "a b({})", "f({}", "f({}) g()", "f(x)"] {
            assert!(!is(text, TemplateForm::Jsonp), "{text}");
        }
        assert!(is("{", TemplateForm::Text));
    }

    #[test]
    fn messages_are_escaped_for_their_place() {
        let json = r#"{"id":"$websocket_message_id","channel":"$websocket_channel_id","data":"$websocket_message"}"#;
        assert_eq!(rendered(json, b"r\"1", b"a \"b\"\n"), r#"{"id":"7:1","channel":"r\"1","data":"a \"b\"\u000a"}"#);
        assert_eq!(rendered("$websocket_channel_id: $websocket_message", b"r\"1", b"\"b\""), "r\"1: \"b\"");
        let bare = r#"{"id":$websocket_message_id,"data":$websocket_message}"#;
        assert_eq!(rendered(bare, b"", br#" {"a":[1]} "#), r#"{"id":"7:1","data":{"a":[1]}}"#);
        assert_eq!(rendered(bare, b"", b"1,\"b\":2"), r#"{"id":"7:1","data":"1,\"b\":2"}"#);
        assert_eq!(rendered(bare, b"", b"\xff"), "{\"id\":\"7:1\",\"data\":\"\u{fffd}\"}");
        let script = r#"cb({"a":"$websocket_message","b":$websocket_message});"#;
        assert_eq!(
            rendered(script, b"", "\"</script>\u{2028}\"".as_bytes()),
            r#"cb({"a":"\"\u003c/script>\u2028\"","b":"\u003c/script>\u2028"});"#
        );
    }

    #[test]
    fn callbacks() {
        for name in ["cb", "jQuery1_2", "$.x", "a.b.c", "_"] {
            assert_eq!(escape(name.as_bytes(), Place::Callback, TemplateForm::Jsonp), Ok(name.as_bytes().to_vec()));
        }
        let long = "x".repeat(129);
        for name in ["", "1a", "a..b", ".a", "a.", "a b", "a(", "alert(1)//", "a[0]", "a\n", "\u{e9}", &long] {
            assert_eq!(escape(name.as_bytes(), Place::Callback, TemplateForm::Jsonp), Err(BadCallback), "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_is_made_of_json_is_json(data in proptest::collection::vec(any::<u8>(), 0..40), channel in "\\PC{0,12}") {
            for text in [
                r#"{"id":"$websocket_message_id","c":"a${websocket_channel_id}b","d":"$websocket_message"}"#,
                "[$websocket_message,$websocket_channel_id,$websocket_message_id]",
            ] {
                prop_assert!(is_value(&rendered(text, channel.as_bytes(), &data)));
            }
        }
    }
}
