// SPDX-License-Identifier: Apache-2.0

//! Arbitrary octets as words of nginx's configuration.
//!
//! nginx reads words in double quotes with `\` before `"` and `\`. In most directives a `$` then begins a variable, and nothing
//! can be written before it that would make it one of the text. A variable whose value is `$` can: the values of `geo` are
//! taken as they are.

/// A word is read into a buffer of 4096 octets. What is longer is put together of variables of this many octets each, every one of
/// which may have to be quoted.
const PIECE: usize = 1500;

/// The words of one configuration, and the variables that they need.
#[derive(Default)]
pub struct Words {
    needs_dollar: bool,
    pieces: Vec<Vec<u8>>,
}

/// A word for directives that know no variables.
pub fn plain(text: &[u8]) -> Vec<u8> {
    let mut word = Vec::with_capacity(text.len() + 2);
    word.push(b'"');
    for octet in text {
        if matches!(octet, b'"' | b'\\') {
            word.push(b'\\');
        }
        word.push(*octet);
    }
    word.push(b'"');
    word
}

impl Words {
    /// A word for directives that know variables: this text, none of it a variable.
    pub fn literal(&mut self, text: &[u8]) -> Vec<u8> {
        self.with_variables(&[Part::Text(text)])
    }

    /// A word of texts and of variables.
    pub fn with_variables(&mut self, parts: &[Part]) -> Vec<u8> {
        let mut word = vec![b'"'];
        for part in parts {
            match part {
                Part::Variable(name) => word.extend(format!("${{{name}}}").bytes()),
                Part::Text(text) if text.len() > PIECE / 8 && (text.len() > PIECE || text.contains(&b'$')) => {
                    for piece in text.chunks(PIECE) {
                        word.extend(format!("${{ws_exec_piece_{}}}", self.pieces.len()).bytes());
                        self.pieces.push(piece.to_vec());
                    }
                }
                Part::Text(text) => {
                    for octet in *text {
                        match octet {
                            b'$' => {
                                self.needs_dollar = true;
                                word.extend(b"${ws_exec_dollar}");
                            }
                            b'"' | b'\\' => word.extend([b'\\', *octet]),
                            _ => word.push(*octet),
                        }
                    }
                }
            }
        }
        word.push(b'"');
        word
    }

    /// What the `http` block needs for these words.
    pub fn variables(&self) -> Vec<u8> {
        let mut block = Vec::new();
        let mut geo = |name: &str, value: &[u8]| {
            block.extend(format!("    geo ${name} {{ default ").bytes());
            block.extend(plain(value));
            block.extend(b"; }\n");
        };
        if self.needs_dollar {
            geo("ws_exec_dollar", b"$");
        }
        for (nth, piece) in self.pieces.iter().enumerate() {
            geo(&format!("ws_exec_piece_{nth}"), piece);
        }
        block
    }
}

/// A part of a word.
pub enum Part<'a> {
    /// Octets that stand for themselves.
    Text(&'a [u8]),
    /// The name of a variable of nginx, without `$`.
    Variable(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        assert_eq!(plain(br#"a "b" \n ; { } # '"#), br#""a \"b\" \\n ; { } # '""#);
        assert_eq!(Words::default().literal(b"two\nlines"), b"\"two\nlines\"");
        assert_eq!(plain(b""), b"\"\"");
    }

    #[test]
    fn a_dollar_is_a_variable() {
        let mut words = Words::default();
        assert_eq!(words.literal(b"$HOME"), b"\"${ws_exec_dollar}HOME\"");
        assert_eq!(words.variables(), b"    geo $ws_exec_dollar { default \"$\"; }\n");
        assert_eq!(Words::default().variables(), b"");
    }

    #[test]
    fn what_is_long_comes_in_pieces() {
        let mut words = Words::default();
        let word = words.literal(&vec![b'$'; 2 * PIECE + 1]);
        assert_eq!(word, b"\"${ws_exec_piece_0}${ws_exec_piece_1}${ws_exec_piece_2}\"");
        assert!(words.variables().split(|octet| *octet == b'\n').all(|line| line.len() < 4000));
    }

    #[test]
    fn no_word_is_longer_than_the_buffer() {
        for length in 0..2 * PIECE {
            for octet in [b'$', b'"', b'a'] {
                assert!(Words::default().literal(&vec![octet; length]).len() < 4000, "{length} of {octet}");
            }
        }
    }
}
