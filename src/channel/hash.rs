// SPDX-License-Identifier: Apache-2.0

//! A keyed hash of octets: SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF").
//!
//! Channel ids come from clients, so the table of channels is keyed with a secret of its zone. The function is fixed
//! here because workers of two builds may share one zone while nginx reloads.

/// The state while octets come in.
#[derive(Debug, Clone)]
pub struct SipHash {
    v: [u64; 4],
    tail: u64,
    len: u64,
}

impl SipHash {
    /// An empty input under this key.
    pub fn new(key: [u64; 2]) -> Self {
        let v = [
            key[0] ^ 0x736f_6d65_7073_6575,
            key[1] ^ 0x646f_7261_6e64_6f6d,
            key[0] ^ 0x6c79_6765_6e65_7261,
            key[1] ^ 0x7465_6462_7974_6573,
        ];
        Self { v, tail: 0, len: 0 }
    }

    /// More of the input.
    pub fn write(&mut self, mut octets: &[u8]) {
        let pending = self.len % 8;
        self.len = self.len.wrapping_add(octets.len() as u64);
        if pending != 0 {
            let take = octets.len().min(8 - pending as usize);
            let (now, later) = octets.split_at(take);
            self.tail |= little_endian(now) << (8 * pending);
            if pending as usize + take < 8 {
                return;
            }
            self.word(self.tail);
            octets = later;
        }
        let mut words = octets.chunks_exact(8);
        for word in &mut words {
            self.word(little_endian(word));
        }
        self.tail = little_endian(words.remainder());
    }

    /// The hash of everything that came in.
    pub fn finish(mut self) -> u64 {
        self.word(self.len << 56 | self.tail);
        self.v[2] ^= 0xff;
        for _ in 0..3 {
            self.round();
        }
        self.v.iter().fold(0, |all, v| all ^ v)
    }

    fn word(&mut self, word: u64) {
        self.v[3] ^= word;
        self.round();
        self.v[0] ^= word;
    }

    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.v;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32);
        c = c.wrapping_add(b);
        a = a.wrapping_add(d);
        b = b.rotate_left(17) ^ c;
        d = d.rotate_left(21) ^ a;
        c = c.rotate_left(32);
        self.v = [a, b, c, d];
    }
}

fn little_endian(octets: &[u8]) -> u64 {
    octets.iter().rev().fold(0, |word, &octet| word << 8 | u64::from(octet))
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher;

    use super::*;

    /// The standard library's hasher is the same function under the key zero.
    #[test]
    fn agrees_with_the_standard_library() {
        let octets: Vec<u8> = (0..=255).collect();
        for len in 0..100 {
            for split in 0..=len {
                let mut theirs = std::hash::DefaultHasher::new();
                theirs.write(&octets[..len]);
                let mut ours = SipHash::new([0, 0]);
                ours.write(&octets[..split]);
                ours.write(&octets[split..len]);
                assert_eq!(ours.finish(), theirs.finish(), "{split} of {len}");
            }
        }
    }

    #[test]
    fn depends_on_the_key() {
        let hash = |key| SipHash::new(key).finish();
        assert_ne!(hash([0, 0]), hash([1, 0]));
        assert_ne!(hash([0, 0]), hash([0, 1]));
    }
}
