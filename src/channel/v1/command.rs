// SPDX-License-Identifier: Apache-2.0

//! What a client says.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::json::object::{Error, Object, Value};
use crate::ws::frame::MessageKind;

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation<'t> {
    /// To get the messages of a channel: those after this position, if it names one.
    Subscribe {
        /// The position.
        after: Option<Cow<'t, str>>,
    },
    /// To get no more of them.
    Unsubscribe,
    /// A message is to be published.
    Publish(Said<'t>),
    /// The client wants to know who is there.
    Presence,
    /// To know whether the server is there.
    Ping,
}

/// A message that a client publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said<'t> {
    /// Text, or octets.
    pub kind: MessageKind,
    /// Its content type; empty if it names none.
    pub content_type: Cow<'t, str>,
    /// The name of its event; empty if it names none.
    pub event: Cow<'t, str>,
    /// The message.
    pub data: Cow<'t, [u8]>,
}

/// One message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command<'t> {
    /// A number that comes back in the answer.
    pub reference: Option<u64>,
    /// The channel; `None` for those of the location.
    pub channel: Option<Cow<'t, str>>,
    /// What is wanted.
    pub operation: Operation<'t>,
}

/// Why a message is no command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The message is not of the subprotocol: the connection is closed.
    Foreign(&'static str),
    /// The message is an object, but not one that means something. The client is told.
    Refused {
        /// The number that comes back in the answer.
        reference: Option<u64>,
        /// What is wrong.
        reason: &'static str,
    },
    /// There is no memory.
    Memory,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Foreign(match error {
            Error::Syntax => "not JSON",
            Error::Nested => "not a flat object",
            Error::Duplicate => "a member is there twice",
            Error::Members => "too many members",
            Error::Memory => return Fault::Memory,
        })
    }
}

/// Whether a text may stand in a header: neither a line's end nor another control character.
fn is_plain(text: &str) -> bool {
    !text.bytes().any(|octet| octet < b' ' || octet == 0x7f)
}

impl<'t> Command<'t> {
    /// Reads a text message.
    ///
    /// # Errors
    ///
    /// [`Fault`].
    pub fn parse(payload: &'t [u8]) -> Result<Self, Fault> {
        let text = str::from_utf8(payload).map_err(|_| Fault::Foreign("not UTF-8"))?;
        let mut object = Object::parse(text)?;
        let reference = match object.take("ref") {
            None => None,
            Some(value) => match value.integer() {
                Some(reference) => Some(reference),
                None => {
                    let reason = "\"ref\" is an integer from 0 to 9007199254740991";
                    return Err(Fault::Refused { reference: None, reason });
                }
            },
        };
        let refused = |reason| Fault::Refused { reference, reason };
        let mut string = |name, reason| match object.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(_) | Value::Literal(_)) => Err(refused(reason)),
        };
        let name = string("op", "\"op\" is a string")?.ok_or_else(|| refused("\"op\" is missing"))?;
        let channel = string("channel", "\"channel\" is a string")?;
        if channel.as_ref().is_some_and(|channel| !is_plain(channel)) {
            return Err(refused("\"channel\" has control characters"));
        }
        let operation = match name.as_ref() {
            "subscribe" => Operation::Subscribe { after: string("after", "\"after\" is a string")? },
            "unsubscribe" => Operation::Unsubscribe,
            "publish" => {
                let content_type = string("type", "\"type\" is a string")?.unwrap_or_default();
                let event = string("event", "\"event\" is a string")?.unwrap_or_default();
                if !is_plain(&content_type) || !is_plain(&event) {
                    return Err(refused("\"type\" or \"event\" has control characters"));
                }
                let text = string("data", "\"data\" is a string")?;
                let octets = string("base64", "\"base64\" is a string")?;
                let (kind, data) = match (text, octets) {
                    (Some(Cow::Borrowed(text)), None) => (MessageKind::Text, Cow::Borrowed(text.as_bytes())),
                    (Some(Cow::Owned(text)), None) => (MessageKind::Text, Cow::Owned(text.into_bytes())),
                    (None, Some(octets)) => {
                        let mut data = Vec::new();
                        data.try_reserve_exact(octets.len() / 4 * 3 + 3).map_err(|_| Fault::Memory)?;
                        let read = STANDARD.decode_vec(octets.as_bytes(), &mut data);
                        read.map_err(|_| refused("\"base64\" is not base64 (RFC 4648, section 4)"))?;
                        (MessageKind::Binary, Cow::Owned(data))
                    }
                    (Some(_), Some(_)) | (None, None) => {
                        return Err(refused("one of \"data\" and \"base64\" is needed"));
                    }
                };
                Operation::Publish(Said { kind, content_type, event, data })
            }
            "presence" => Operation::Presence,
            "ping" => Operation::Ping,
            _ => return Err(refused("\"op\" is none that is known")),
        };
        if object.left().is_some() {
            return Err(refused("a member does not belong to this \"op\""));
        }
        Ok(Command { reference, channel, operation })
    }

    /// The command with memory of its own.
    pub fn into_owned(self) -> Command<'static> {
        fn text(text: Cow<'_, str>) -> Cow<'static, str> {
            Cow::Owned(text.into_owned())
        }
        let operation = match self.operation {
            Operation::Subscribe { after } => Operation::Subscribe { after: after.map(text) },
            Operation::Unsubscribe => Operation::Unsubscribe,
            Operation::Publish(Said { kind, content_type, event, data }) => Operation::Publish(Said {
                kind,
                content_type: text(content_type),
                event: text(event),
                data: Cow::Owned(data.into_owned()),
            }),
            Operation::Presence => Operation::Presence,
            Operation::Ping => Operation::Ping,
        };
        Command { reference: self.reference, channel: self.channel.map(text), operation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Command<'_>, Fault> {
        Command::parse(text.as_bytes())
    }

    fn refused(reference: Option<u64>) -> impl Fn(Result<Command<'_>, Fault>) -> bool {
        move |parsed| matches!(parsed, Err(Fault::Refused { reference: told, .. }) if told == reference)
    }

    #[test]
    fn commands() {
        let subscribe = parse(r#"{"op":"subscribe","ref":7,"channel":"room/é","after":"77:5"}"#).unwrap();
        assert_eq!((subscribe.reference, subscribe.channel.as_deref()), (Some(7), Some("room/é")));
        assert_eq!(subscribe.operation, Operation::Subscribe { after: Some(Cow::Borrowed("77:5")) });
        let own = parse(r#"{"op":"subscribe"}"#).unwrap();
        assert_eq!((own.reference, own.channel, own.operation), (None, None, Operation::Subscribe { after: None }));
        assert_eq!(parse(r#"{"op":"unsubscribe"}"#).unwrap().operation, Operation::Unsubscribe);
        assert_eq!(parse(r#"{"op":"presence"}"#).unwrap().operation, Operation::Presence);
        assert_eq!(parse(r#"{"op":"ping","ref":0}"#).unwrap().operation, Operation::Ping);
    }

    #[test]
    fn publications() {
        let said = |text| match parse(text).unwrap().into_owned().operation {
            Operation::Publish(said) => (said.kind, said.content_type.into_owned(), said.event, said.data.into_owned()),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            said(r#"{"op":"publish","data":"a\nb"}"#),
            (MessageKind::Text, String::new(), "".into(), b"a\nb".to_vec())
        );
        assert_eq!(
            said(r#"{"op":"publish","base64":"AP8=","type":"image/png","event":"e"}"#),
            (MessageKind::Binary, "image/png".to_owned(), "e".into(), b"\x00\xff".to_vec())
        );
        assert_eq!(said(r#"{"op":"publish","base64":""}"#).3, b"");
        for text in [
            r#"{"op":"publish","ref":1}"#,
            r#"{"op":"publish","ref":1,"data":"","base64":""}"#,
            r#"{"op":"publish","ref":1,"data":1}"#,
            r#"{"op":"publish","ref":1,"base64":"A"}"#,
            r#"{"op":"publish","ref":1,"base64":"AP8"}"#,
            r#"{"op":"publish","ref":1,"base64":"A P8="}"#,
            r#"{"op":"publish","ref":1,"base64":"AP-_"}"#,
            r#"{"op":"publish","ref":1,"data":"","type":"a\r\nb"}"#,
            r#"{"op":"publish","ref":1,"data":"","event":"a\nb"}"#,
            r#"{"op":"publish","ref":1,"data":"","after":"1:1"}"#,
        ] {
            assert!(refused(Some(1))(parse(text)), "{text}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in [
            "{}",
            r#"{"op":1}"#,
            r#"{"op":null}"#,
            r#"{"op":"Subscribe"}"#,
            r#"{"op":"subscribe","channel":7}"#,
            r#"{"op":"subscribe","channel":"a\u0000"}"#,
            r#"{"op":"subscribe","channel":"a\n"}"#,
            r#"{"op":"subscribe","after":7}"#,
            r#"{"op":"subscribe","data":"x"}"#,
            r#"{"op":"unsubscribe","after":"1:1"}"#,
            r#"{"op":"ping","ref":-1}"#,
            r#"{"op":"ping","ref":"1"}"#,
            r#"{"op":"ping","ref":1.5}"#,
            r#"{"op":"ping","ref":9007199254740992}"#,
        ] {
            assert!(refused(None)(parse(text)), "{text}");
        }
        assert!(refused(Some(3))(parse(r#"{"ref":3,"op":"nothing"}"#)), "the answer says which it was");
    }

    #[test]
    fn what_is_no_object_is_foreign() {
        for text in ["", "hello", "[]", "{\"op\":{}}", "{\"op\":\"ping\",\"op\":\"ping\"}"] {
            assert!(matches!(parse(text), Err(Fault::Foreign(_))), "{text}");
        }
        assert!(matches!(Command::parse(b"{\"op\":\"\xff\"}"), Err(Fault::Foreign(_))));
    }
}
