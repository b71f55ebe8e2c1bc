// SPDX-License-Identifier: Apache-2.0

//! Who is on a channel, as JSON. The other forms have no way to write any name that a client may choose.

use std::fmt;

use crate::channel::store::Presence;
use crate::json;

impl Presence {
    /// The media type of what it is written as.
    pub const CONTENT_TYPE: &str = "application/json";
}

impl fmt::Display for Presence {
    /// `{"subscribers": 3, "present": [{"id": "anna", "connections": 2}]}`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{\"subscribers\": {}, \"present\": [", self.subscribers)?;
        for (nth, (name, connections)) in self.names.iter().enumerate() {
            let comma = if nth == 0 { "" } else { ", " };
            write!(f, "{comma}{{\"id\": {}, \"connections\": {connections}}}", Quoted(name))?;
        }
        f.write_str("]}")
    }
}

/// A string of JSON, which no page takes for something else.
pub(super) struct Quoted<'a>(pub &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        json::string_for_pages(&mut text, self.0);
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(subscribers: u32, names: &[(&[u8], u32)]) -> String {
        let names = names.iter().map(|(name, count)| (name.to_vec(), *count)).collect();
        Presence { subscribers, names }.to_string()
    }

    #[test]
    fn nobody_and_somebody() {
        assert_eq!(presence(0, &[]), r#"{"subscribers": 0, "present": []}"#);
        assert_eq!(
            presence(4, &[(b"anna", 2), (b"bob", 1)]),
            r#"{"subscribers": 4, "present": [{"id": "anna", "connections": 2}, {"id": "bob", "connections": 1}]}"#
        );
    }

    #[test]
    fn a_name_cannot_leave_its_string() {
        for (name, written) in [
            (&b"a\"}, {\"id\": \"admin"[..], r#"a\"}, {\"id\": \"admin"#),
            (b"\\", r"\\"),
            (b"\0\n\x1b\x7f", r"\u0000\u000a\u001b\u007f"),
            (b"</script><!--&", r"\u003c/script\u003e\u003c!--\u0026"),
            ("é\u{2028}😀".as_bytes(), "é\\u2028😀"),
            (b"\xff\xc3", "\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(Quoted(name).to_string(), format!("\"{written}\""));
        }
    }
}
