// SPDX-License-Identifier: Apache-2.0

//! Commands as they are sent: arrays of texts with their lengths ("RESP protocol spec", sending commands to a server).

/// Appends a command to what is to be sent.
pub fn append(words: &[&[u8]], out: &mut Vec<u8>) {
    number(b'*', words.len(), out);
    for word in words {
        number(b'$', word.len(), out);
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// A type and a length.
fn number(kind: u8, number: usize, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut begin = digits.len();
    let mut rest = number;
    loop {
        begin -= 1;
        // A remainder of ten is one digit.
        digits[begin] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.push(kind);
    out.extend_from_slice(&digits[begin..]);
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
