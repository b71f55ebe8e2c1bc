// SPDX-License-Identifier: Apache-2.0

//! Commands as they are sent: arrays of texts with their lengths ("RESP protocol spec", sending commands to a server).

/// Octets that a word takes besides its own, as a rule: its type, its length in three digits, and two line ends.
const FRAME: usize = 8;

/// Appends a command to what is to be sent.
pub fn append(words: &[&[u8]], out: &mut Vec<u8>) {
    let octets: usize = words.iter().map(|word| word.len() + FRAME).sum();
    out.reserve(octets + FRAME);
    number(b'*', words.len(), out);
    for word in words {
        number(b'$', word.len(), out);
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// A type and a length.
fn number(kind: u8, number: usize, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_sent_with_their_lengths() {
        let mut out = Vec::new();
        append(&[b"SET", b"a\r\nb", b"", &[b'x'; 1234]], &mut out);
        let expected =
            [&b"*4\r\n$3\r\nSET\r\n$4\r\na\r\nb\r\n$0\r\n\r\n$1234\r\n"[..], &[b'x'; 1234], b"\r\n"].concat();
        assert_eq!(out, expected);
        let mut out = Vec::new();
        number(b'*', usize::MAX, &mut out);
        assert_eq!(out, format!("*{}\r\n", usize::MAX).as_bytes());
    }
}
