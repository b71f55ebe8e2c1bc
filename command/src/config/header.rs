// SPDX-License-Identifier: Apache-2.0

//! Headers of answers.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::options::Options;
use crate::quote::Words;

/// One header of the command line: `Name: value`.
fn header(text: &OsStr) -> Result<(String, Vec<u8>), String> {
    let octets = text.as_bytes();
    let colon = octets
        .iter()
        .position(|octet| *octet == b':')
        .ok_or_else(|| format!("a header is \"Name: value\", not {text:?}"))?;
    let is_token = |octet: &u8| octet.is_ascii_alphanumeric() || b"!#%&'*+-.^_`|~".contains(octet);
    if colon == 0 || !octets[..colon].iter().all(is_token) {
        return Err(format!("this is no name of a header: {text:?}"));
    }
    let value = octets[colon + 1..].trim_ascii().to_vec();
    if value.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
        return Err(format!("a header has one line: {text:?}"));
    }
    Ok((String::from_utf8_lossy(&octets[..colon]).into_owned(), value))
}

/// Headers of answers, chosen by status: 101 or anything else.
pub struct HeaderMaps {
    /// At the level of `http`.
    pub maps: Vec<u8>,
    /// In the server.
    pub uses: Vec<u8>,
}

impl HeaderMaps {
    /// The headers of the command line.
    ///
    /// # Errors
    ///
    /// What is no header.
    pub fn of(options: &Options, words: &mut Words) -> Result<Self, String> {
        let mut this = Self { maps: Vec::new(), uses: Vec::new() };
        for text in &options.headers {
            let (name, value) = header(text)?;
            this.give(&name, &words.literal(&value));
        }
        let kinds = [(&options.headers_websocket, "101", "default"), (&options.headers_http, "default", "101")];
        let mut nth = 0;
        for (headers, with, without) in kinds {
            for text in headers {
                let (name, value) = header(text)?;
                let variable = format!("$ws_exec_header_{nth}");
                nth += 1;
                this.maps.extend(format!("    map $status {variable} {{ {without} ''; {with} ").bytes());
                this.maps.extend(words.literal(&value));
                this.maps.extend(b"; }\n");
                this.give(&name, variable.as_bytes());
            }
        }
        Ok(this)
    }

    fn give(&mut self, name: &str, value: &[u8]) {
        self.uses.extend(format!("        add_header  {name} ").bytes());
        self.uses.extend(value);
        self.uses.extend(b" always;\n");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn headers_are_a_name_and_a_line() {
        assert_eq!(header(OsStr::new("X-A:  b: c")).unwrap(), ("X-A".into(), b"b: c".to_vec()));
        for text in ["X-A", ": b", "X A: b", "X;: b", "X: a\nSet-Cookie: b"] {
            assert!(header(OsStr::new(text)).is_err(), "{text}");
        }
    }
}
