// SPDX-License-Identifier: Apache-2.0

//! A page of the channels of a group, in the forms of channel info.

use std::fmt::Write;

use super::InfoForm;
use super::presence::Quoted;
use crate::channel::backend::Listing;
use crate::channel::store::Listed;

impl InfoForm {
    /// Channels of a group in this form. An id that is not UTF-8 has U+FFFD in it.
    pub fn render_channels(self, Listing { channels, next }: &Listing) -> String {
        let next = next.map(|page| page.to_string());
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = match self {
            Self::Text => {
                let mut all = channels.iter();
                let more = next.map(|next| format!("next: {next}\r\n")).unwrap_or_default();
                write!(text, "channels: {}\r\n{more}", channels.len())
                    .and_then(|()| all.try_for_each(|channel| write!(text, "\r\n{}", self.render_channel(channel))))
            }
            Self::Json => {
                let all: Vec<String> = channels.iter().map(|channel| self.render_channel(channel)).collect();
                let next = next.map_or_else(|| "null".to_owned(), |next| format!("\"{next}\""));
                write!(text, "{{\"channels\": [{}], \"next\": {next}}}", all.join(", "))
            }
            Self::Xml => {
                let all: String = channels.iter().map(|channel| self.render_channel(channel)).collect();
                let next = next.map(|next| format!("  <next>{next}</next>\r\n")).unwrap_or_default();
                write!(text, "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\r\n<channels>\r\n{all}{next}</channels>")
            }
            Self::Yaml => {
                let all: String = channels.iter().map(|channel| self.render_channel(channel)).collect();
                let begin = if channels.is_empty() { "channels: []\r\n" } else { "channels:\r\n" };
                let next = next.map_or_else(|| "null".to_owned(), |next| format!("\"{next}\""));
                write!(text, "---\r\n{begin}{all}next: {next}\r\n\r\n")
            }
        };
        text
    }

    fn render_channel(self, Listed { id, info }: &Listed) -> String {
        let (messages, subscribers, last) = (info.messages, info.subscribers, info.last);
        let requested = info.requested.map_or_else(|| "-1".to_owned(), |seconds| seconds.to_string());
        let quoted = Quoted(id);
        match self {
            Self::Text => format!("channel: {}\r\n{}\r\n", line(id), self.render(info)),
            Self::Json => format!(
                "{{\"id\": {quoted}, \"messages\": {messages}, \"requested\": {requested}, \"subscribers\": {subscribers}, \
                 \"last_message_id\": \"{last}\"}}"
            ),
            Self::Xml => format!(
                "  <channel>\r\n    <id>{}</id>\r\n    <messages>{messages}</messages>\r\n    \
                 <requested>{requested}</requested>\r\n    <subscribers>{subscribers}</subscribers>\r\n    \
                 <last_message_id>{last}</last_message_id>\r\n  </channel>\r\n",
                xml(id)
            ),
            Self::Yaml => format!(
                "- id: {quoted}\r\n  messages: {messages}\r\n  requested: {requested}\r\n  \
                 subscribers: {subscribers}\r\n  last_message_id: \"{last}\"\r\n"
            ),
        }
    }
}

/// An id in a line. Control characters are percent-encoded (RFC 3986, section 2.1).
fn line(id: &[u8]) -> String {
    let mut text = String::new();
    for character in String::from_utf8_lossy(id).chars() {
        if character.is_ascii_control() {
            let _ = write!(text, "%{:02X}", u32::from(character));
        } else {
            text.push(character);
        }
    }
    text
}

/// An id as the text of an element. What XML cannot have at all becomes U+FFFD.
fn xml(id: &[u8]) -> String {
    let mut text = String::new();
    for character in String::from_utf8_lossy(id).chars() {
        match character {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '\t' | '\n' | '\r' => {
                let _ = write!(text, "&#{};", u32::from(character));
            }
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => text.push('\u{fffd}'),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::position::{Epoch, MessageId, Offset};
    use crate::channel::store::{Info, Page};
    use crate::json::valid::is_value;

    fn listing(ids: &[&[u8]], next: Option<&str>) -> Listing {
        let last = MessageId { epoch: Epoch(7), offset: Offset(3) };
        let info = Info { messages: 2, requested: None, subscribers: 1, last };
        let channels = ids.iter().map(|id| Listed { id: id.to_vec(), info }).collect();
        Listing { channels, next: next.map(|next| Page::parse(next).unwrap()) }
    }

    #[test]
    fn every_form() {
        let some = listing(&[b"a", b"<b>\n"], Some("1f-ab"));
        let render = |form: InfoForm, listing: &Listing| form.render_channels(listing).replace("\r\n", "|");
        assert_eq!(
            render(InfoForm::Text, &some),
            "channels: 2|next: 1f-ab||channel: a|queued messages: 2|last requested: -1 sec. ago|active subscribers: 1|\
             last message id: 7:3||channel: <b>%0A|queued messages: 2|last requested: -1 sec. ago|\
             active subscribers: 1|last message id: 7:3|"
        );
        let json = render(InfoForm::Json, &some);
        assert_eq!(
            json,
            "{\"channels\": [{\"id\": \"a\", \"messages\": 2, \"requested\": -1, \"subscribers\": 1, \"last_message_id\": \"7:3\"}, \
             {\"id\": \"\\u003cb\\u003e\\u000a\", \"messages\": 2, \"requested\": -1, \"subscribers\": 1, \
             \"last_message_id\": \"7:3\"}], \"next\": \"1f-ab\"}"
        );
        assert!(is_value(&json));
        assert!(render(InfoForm::Xml, &some).contains("<id>&lt;b&gt;&#10;</id>|    <messages>2</messages>"));
        assert!(render(InfoForm::Xml, &some).ends_with("  <next>1f-ab</next>|</channels>"));
        assert!(render(InfoForm::Yaml, &some).starts_with("---|channels:|- id: \"a\"|  messages: 2|"));
        let none = listing(&[], None);
        assert_eq!(render(InfoForm::Text, &none), "channels: 0|");
        assert_eq!(render(InfoForm::Json, &none), "{\"channels\": [], \"next\": null}");
        assert_eq!(render(InfoForm::Yaml, &none), "---|channels: []|next: null||");
    }

    #[test]
    fn pages() {
        for text in ["0", "1f", "1f-0", "1f-ffffffffffffffff"] {
            assert_eq!(Page::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "-", "1-", "-1", "g", "1-2-3", "+1", "1 ", "1ffffffffffffffff", "A"] {
            assert_eq!(Page::parse(text), None, "{text}");
        }
    }
}
