// SPDX-License-Identifier: Apache-2.0

//! Masking of a client's payload (RFC 6455, section 5.3).

/// XORs `octets` with `key` in place and returns the phase for the octets that follow.
///
/// `phase` is the position in the key (0..=3) of the first octet: 0 at the beginning of a payload, then what the
/// previous call returned. Only its two low bits count.
#[must_use]
pub fn apply(octets: &mut [u8], key: [u8; 4], phase: u8) -> u8 {
    let mut turned = key;
    turned.rotate_left(usize::from(phase & 3));
    let word = u64::from(u32::from_ne_bytes(turned));
    let word = word | word << 32;
    // Whole words in a plain loop: the compiler makes vector instructions of it.
    let (words, tail) = octets.as_chunks_mut::<8>();
    for octets in words {
        *octets = (u64::from_ne_bytes(*octets) ^ word).to_ne_bytes();
    }
    for (octet, key) in tail.iter_mut().zip(turned.iter().cycle()) {
        *octet ^= key;
    }
    after(phase, octets.len())
}

/// The phase after `len` octets that begin at `phase`.
#[must_use]
pub fn after(phase: u8, len: usize) -> u8 {
    // Only the length modulo four matters, so the truncation loses nothing.
    #[allow(clippy::cast_possible_truncation)]
    let moved = len as u8;
    phase.wrapping_add(moved) & 3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition of RFC 6455, section 5.3.
    fn plain(octets: &[u8], key: [u8; 4]) -> Vec<u8> {
        octets.iter().enumerate().map(|(i, o)| o ^ key[i % 4]).collect()
    }

    #[test]
    fn hello_of_the_rfc() {
        // RFC 6455, section 5.7.
        let mut octets = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(apply(&mut octets, [0x37, 0xfa, 0x21, 0x3d], 0), 1);
        assert_eq!(&octets, b"Hello");
    }

    proptest! {
        #[test]
        fn any_cut_is_the_same(octets in proptest::collection::vec(any::<u8>(), 0..200), key: [u8; 4], cut: usize) {
            let expected = plain(&octets, key);
            let mut got = octets.clone();
            let cut = cut % (octets.len() + 1);
            let (a, b) = got.split_at_mut(cut);
            let phase = apply(a, key, 0);
            let _ = apply(b, key, phase);
            prop_assert_eq!(&got, &expected);
            let mut got = octets;
            let mut phase = 0;
            for octet in got.chunks_mut(1) {
                phase = apply(octet, key, phase);
            }
            prop_assert_eq!(&got, &expected);
        }
    }
}
