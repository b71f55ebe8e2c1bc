// SPDX-License-Identifier: Apache-2.0

//! What is told about a channel and about a group of them, byte for byte in the forms that Nchan's clients read, and who is
//! on a channel.

mod channels;
mod group;
mod presence;
mod subscribers;

use super::store::Info;
use crate::ws::field;
pub use subscribers::SubscribersReport;

/// A form of channel info.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InfoForm {
    /// Lines for people.
    #[default]
    Text,
    /// An object.
    Json,
    /// A document.
    Xml,
    /// A document.
    Yaml,
}

/// How well a form is wanted. Greater is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    /// Thousandths.
    quality: u16,
    /// 0 for `*/*`, 1 for `text/*`, 2 for a type.
    precision: u8,
    /// The place in the header, counted backwards.
    early: usize,
}

impl InfoForm {
    /// All forms. Where a client has no preference the first one of them is meant.
    const ALL: [Self; 4] = [Self::Text, Self::Json, Self::Xml, Self::Yaml];

    /// The form that the values of the `Accept` header ask for (RFC 9110, section 12.5.1); text if they ask for none.
    pub fn negotiate<'a>(accept: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut wanted: [Option<Wanted>; Self::ALL.len()] = [None; Self::ALL.len()];
        let ranges = accept.into_iter().flat_map(|value| field::split_quoted(value, b','));
        for (nth, range) in ranges.enumerate() {
            let mut parts = field::split_quoted(range, b';');
            let media_range = parts.next().unwrap_or_default();
            let quality = parts.find_map(quality).unwrap_or(1000);
            for (form, best) in Self::ALL.iter().zip(&mut wanted) {
                let Some(precision) = form.precision(media_range) else { continue };
                // The most precise range decides, even if another one would be kinder.
                if best.is_none_or(|best| precision > best.precision) {
                    *best = Some(Wanted { quality, precision, early: usize::MAX - nth });
                }
            }
        }
        let mut chosen = (Self::default(), None);
        for (form, wanted) in Self::ALL.into_iter().zip(wanted) {
            if wanted > chosen.1 && wanted.is_some_and(|wanted| wanted.quality > 0) {
                chosen = (form, wanted);
            }
        }
        chosen.0
    }

    /// How precisely a media range means this form; `None` if it does not.
    fn precision(self, range: &[u8]) -> Option<u8> {
        let slash = range.iter().position(|&octet| octet == b'/')?;
        let (kind, subtype) = (range.get(..slash)?, range.get(slash + 1..)?);
        let is = |octets: &[u8], name: &str| octets.eq_ignore_ascii_case(name.as_bytes());
        let subtypes: &[&str] = match self {
            Self::Text => &["plain"],
            Self::Json => &["json", "x-json"],
            Self::Xml => &["xml", "x-xml"],
            Self::Yaml => &["yaml", "x-yaml"],
        };
        let top_level = is(kind, "text") || (is(kind, "application") && self != Self::Text);
        match subtype {
            b"*" if kind == b"*" => Some(0),
            b"*" if top_level => Some(1),
            _ if top_level && subtypes.iter().any(|name| is(subtype, name)) => Some(2),
            _ => None,
        }
    }

    /// The media type of the form.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain",
            Self::Json => "text/json",
            Self::Xml => "text/xml",
            Self::Yaml => "text/yaml",
        }
    }

    /// Channel info in this form. Each publication by HTTP is answered with it: a formatter takes four times as long.
    pub fn render(self, info: &Info) -> String {
        let mut buffers = [itoa::Buffer::new(); 5];
        let [messages, requested, subscribers, epoch, offset] = &mut buffers;
        let messages = messages.format(info.messages);
        let requested = info.requested.map_or("-1", |seconds| requested.format(seconds));
        let subscribers = subscribers.format(info.subscribers);
        let (epoch, offset) = (epoch.format(info.last.epoch.0), offset.format(info.last.offset.0));
        let [before_messages, before_requested, before_subscribers, before_id, end] = match self {
            Self::Text => [
                "queued messages: ",
                "\r\nlast requested: ",
                " sec. ago\r\nactive subscribers: ",
                "\r\nlast message id: ",
                "",
            ],
            Self::Json => {
                ["{\"messages\": ", ", \"requested\": ", ", \"subscribers\": ", ", \"last_message_id\": \"", "\" }"]
            }
            Self::Xml => [
                "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\r\n<channel>\r\n  <messages>",
                "</messages>\r\n  <requested>",
                "</requested>\r\n  <subscribers>",
                "</subscribers>\r\n  <last_message_id>",
                "</last_message_id>\r\n</channel>",
            ],
            Self::Yaml => {
                ["---\r\nmessages: ", "\r\nrequested: ", "\r\nsubscribers: ", "\r\nlast_message_id: \"", "\"\r\n\r\n"]
            }
        };
        [
            before_messages,
            messages,
            before_requested,
            requested,
            before_subscribers,
            subscribers,
            before_id,
            epoch,
            ":",
            offset,
            end,
        ]
        .concat()
    }

    /// In place of channel info: nobody gets the message, for this status of HTTP.
    pub fn render_refusal(self, status: u16) -> String {
        match self {
            Self::Text => format!("message refused: {status}"),
            Self::Json => format!("{{\"refused\": {status} }}"),
            Self::Xml => format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\r\n<channel>\r\n  <refused>{status}</refused>\r\n</channel>"
            ),
            Self::Yaml => format!("---\r\nrefused: {status}\r\n\r\n"),
        }
    }
}

/// The weight in a parameter of a media range (RFC 9110, section 12.4.2), in thousandths. A malformed one is none.
fn quality(parameter: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(parameter).ok()?;
    let value = text.strip_prefix("q=").or_else(|| text.strip_prefix("Q="))?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let thousandths = format!("{fraction:0<3}").parse::<u16>().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::position::{Epoch, MessageId, Offset};

    fn form(accept: &str) -> InfoForm {
        InfoForm::negotiate([accept.as_bytes()])
    }

    /// Recorded from Nchan 1.3.6, whose ids have the same form.
    #[test]
    fn nchans_bytes() {
        let last = MessageId { epoch: Epoch(1_795_181_157), offset: Offset(0) };
        let info = Info { messages: 1, requested: None, subscribers: 0, last };
        let expected = [
            (
                InfoForm::Text,
                "queued messages: 1\r\nlast requested: -1 sec. ago\r\nactive subscribers: 0\r\n\
                 last message id: 1795181157:0",
                101,
            ),
            (
                InfoForm::Json,
                "{\"messages\": 1, \"requested\": -1, \"subscribers\": 0, \"last_message_id\": \"1795181157:0\" }",
                86,
            ),
            (
                InfoForm::Xml,
                "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\r\n<channel>\r\n  <messages>1</messages>\r\n  \
                 <requested>-1</requested>\r\n  <subscribers>0</subscribers>\r\n  \
                 <last_message_id>1795181157:0</last_message_id>\r\n</channel>",
                200,
            ),
            (
                InfoForm::Yaml,
                "---\r\nmessages: 1\r\nrequested: -1\r\nsubscribers: 0\r\nlast_message_id: \"1795181157:0\"\r\n\r\n",
                84,
            ),
        ];
        for (form, text, len) in expected {
            assert_eq!(form.render(&info), text);
            assert_eq!(text.len(), len, "as Nchan's Content-Length");
        }
        let asked = Info { requested: Some(7), subscribers: 3, ..info };
        assert!(InfoForm::Text.render(&asked).contains("last requested: 7 sec. ago\r\nactive subscribers: 3\r\n"));
    }

    #[test]
    fn refusals() {
        let expected = [
            (InfoForm::Text, "message refused: 422"),
            (InfoForm::Json, "{\"refused\": 422 }"),
            (
                InfoForm::Xml,
                "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\r\n<channel>\r\n  <refused>422</refused>\r\n</channel>",
            ),
            (InfoForm::Yaml, "---\r\nrefused: 422\r\n\r\n"),
        ];
        for (form, text) in expected {
            assert_eq!(form.render_refusal(422), text);
        }
    }

    #[test]
    fn the_form_that_is_asked_for() {
        use InfoForm::{Json, Text, Xml, Yaml};
        let expected = [
            ("", Text),
            ("*/*", Text),
            ("text/*", Text),
            ("text/plain", Text),
            ("text/json", Json),
            ("text/x-json", Json),
            ("application/json", Json),
            ("APPLICATION/Json", Json),
            ("application/json; charset=utf-8", Json),
            ("application/*", Json),
            ("text/xml", Xml),
            ("application/xml", Xml),
            ("text/yaml", Yaml),
            ("application/x-yaml", Yaml),
            ("application/yaml", Yaml),
            ("text/html", Text),
            ("image/png", Text),
            ("nonsense", Text),
            (",;,", Text),
            ("foo, text/json", Json),
            ("application/json, text/plain, */*", Json),
            ("text/plain, application/json", Text),
            ("text/html,application/json;q=0.9", Json),
            ("application/json;q=0.1, text/plain", Text),
            ("application/json;q=0.1, application/xml;q=0.2", Xml),
            ("application/json;q=0.5, */*;q=0.1", Json),
            ("application/json;q=0.5, */*", Text),
            ("text/plain;q=0, text/json;q=0.001", Json),
            ("text/plain;q=0, */*", Json),
            ("text/*;q=0, */*;q=0.5", Text),
            ("application/json;q=0", Text),
            ("application/json;q=nonsense", Json),
            ("application/json;q=2, text/xml;q=0.999", Json),
            ("application/json;a=\",;\";q=0.5, text/xml", Xml),
        ];
        for (accept, expected) in expected {
            assert_eq!(form(accept), expected, "{accept}");
        }
        assert_eq!(InfoForm::negotiate([&b"text/html"[..], b"text/yaml"]), Yaml, "several headers are one list");
        assert_eq!(InfoForm::negotiate([]), Text);
    }

    #[test]
    fn weights() {
        for (parameter, weight) in
            [("q=1", 1000), ("q=0.5", 500), ("Q=0.25", 250), ("q=0", 0), ("q=1.000", 1000), ("q=0.", 0)]
        {
            assert_eq!(quality(parameter.as_bytes()), Some(weight), "{parameter}");
        }
        for parameter in ["q=", "q=1.001", "q=2", "q=0.1234", "q=.5", "q=-1", "q=0.5a", "level=1", "q"] {
            assert_eq!(quality(parameter.as_bytes()), None, "{parameter}");
        }
    }
}
