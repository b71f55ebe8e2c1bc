// SPDX-License-Identifier: Apache-2.0

//! Frames (RFC 6455, section 5.2).

use super::violation::Violation;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A further frame of a fragmented message.
    Continuation,
    /// The first frame of a text message.
    Text,
    /// The first frame of a binary message.
    Binary,
    /// The end of the connection.
    Close,
    /// Asks for a Pong.
    Ping,
    /// Answers a Ping, or just says that the peer is there.
    Pong,
}

impl Opcode {
    /// The opcode with these four bits; `None` for the reserved ones (3-7 and B-F).
    pub const fn new(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xA => Some(Self::Pong),
            _ => None,
        }
    }

    /// Its four bits.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    /// Whether it is a control frame: never fragmented and at most [`MAX_CONTROL`] octets.
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The type of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8 text.
    Text,
    /// Octets.
    Binary,
}

impl MessageKind {
    /// The opcode of its first frame.
    pub const fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}

/// Octets that the payload of a control frame may have (RFC 6455, section 5.5).
pub const MAX_CONTROL: usize = 125;

/// Octets that a frame header of a server may have; it has no mask.
pub const MAX_SERVER_HEADER: usize = 10;

/// The header of a frame that a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The last frame of its message.
    pub fin: bool,
    /// The first frame of a compressed message (RFC 7692, section 6).
    pub rsv1: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// Octets of the payload; at most 2^63-1.
    pub len: u64,
}

impl Header {
    /// The header on the wire: unmasked, the length in its shortest form.
    pub fn encode(self) -> HeaderBytes {
        let mut octets = [0; MAX_SERVER_HEADER];
        octets[0] = u8::from(self.fin) << 7 | u8::from(self.rsv1) << 6 | self.opcode.bits();
        let used = if let Ok(len @ ..=125) = u8::try_from(self.len) {
            octets[1] = len;
            2
        } else if let Ok(len) = u16::try_from(self.len) {
            octets[1] = 126;
            octets[2..4].copy_from_slice(&len.to_be_bytes());
            4
        } else {
            octets[1] = 127;
            octets[2..].copy_from_slice(&self.len.to_be_bytes());
            10
        };
        HeaderBytes { octets, used }
    }
}

/// An encoded [`Header`].
#[derive(Debug, Clone, Copy)]
pub struct HeaderBytes {
    octets: [u8; MAX_SERVER_HEADER],
    used: u8,
}

impl AsRef<[u8]> for HeaderBytes {
    fn as_ref(&self) -> &[u8] {
        self.octets.get(..usize::from(self.used)).unwrap_or_default()
    }
}

impl std::ops::Deref for HeaderBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_ref()
    }
}

/// Octets that a frame header of a client may have.
pub const MAX_CLIENT_HEADER: usize = 14;

/// What a receiver knows when a frame begins; it decides which frames may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// A fragmented message is unfinished.
    pub continuation: bool,
    /// permessage-deflate was negotiated: RSV1 may stand on the first frame of a message.
    pub compression: bool,
}

/// The header of a frame that a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientHeader {
    /// The last frame of its message.
    pub fin: bool,
    /// The first frame of a compressed message.
    pub rsv1: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// Octets of the payload.
    pub len: u64,
    /// What the payload is masked with.
    pub key: [u8; 4],
}

impl ClientHeader {
    /// Reads a header from the beginning of `octets` and returns it with its own length, or `None` while more octets
    /// are needed. Lengths that are not in their shortest form are accepted.
    ///
    /// # Errors
    ///
    /// The rules are checked in the order of the octets, each as soon as its octet is there, so it makes no
    /// difference how a header was cut.
    pub fn parse(octets: &[u8], expected: Expected) -> Result<Option<(Self, usize)>, Violation> {
        let Some(&first) = octets.first() else { return Ok(None) };
        let (fin, rsv1) = (first & 0x80 != 0, first & 0x40 != 0);
        let opcode = Opcode::new(first & 0x0F).ok_or(Violation::ReservedOpcode(first & 0x0F))?;
        if first & 0x30 != 0 {
            return Err(Violation::ReservedBit);
        }
        let begins = matches!(opcode, Opcode::Text | Opcode::Binary);
        if rsv1 && !(expected.compression && begins) {
            return Err(Violation::ReservedBit);
        }
        if opcode.is_control() {
            if !fin {
                return Err(Violation::FragmentedControl);
            }
        } else if begins && expected.continuation {
            return Err(Violation::Interleaved);
        } else if !begins && !expected.continuation {
            return Err(Violation::NothingToContinue);
        }

        let Some(&second) = octets.get(1) else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(Violation::Unmasked);
        }
        let short = second & 0x7F;
        if opcode.is_control() && usize::from(short) > MAX_CONTROL {
            return Err(Violation::LongControl);
        }
        let rest = octets.get(2..).unwrap_or_default();
        let (len, rest) = match short {
            126 => match rest.split_first_chunk::<2>() {
                Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), rest),
                None => return Ok(None),
            },
            127 => {
                if rest.first().is_some_and(|top| top & 0x80 != 0) {
                    return Err(Violation::Length);
                }
                match rest.split_first_chunk::<8>() {
                    Some((len, rest)) => (u64::from_be_bytes(*len), rest),
                    None => return Ok(None),
                }
            }
            _ => (u64::from(short), rest),
        };
        let Some((&key, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        Ok(Some((Self { fin, rsv1, opcode, len, key }, octets.len() - rest.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Expected = Expected { continuation: false, compression: false };
    const INSIDE: Expected = Expected { continuation: true, compression: false };
    const DEFLATE: Expected = Expected { continuation: false, compression: true };

    /// What every prefix and the whole of a header gives; a prefix never says anything but "more" or the same error.
    fn parsed(octets: &[u8], expected: Expected) -> Result<Option<(ClientHeader, usize)>, Violation> {
        let whole = ClientHeader::parse(octets, expected);
        for cut in 0..octets.len() {
            match ClientHeader::parse(&octets[..cut], expected) {
                Ok(None) => {}
                other => assert_eq!(other, whole, "{octets:x?} cut at {cut}"),
            }
        }
        whole
    }

    #[test]
    fn client_headers() {
        let key = [1, 2, 3, 4];
        let header = |opcode, len| ClientHeader { fin: true, rsv1: false, opcode, len, key };
        assert_eq!(parsed(&[0x81, 0x85, 1, 2, 3, 4], FRESH), Ok(Some((header(Opcode::Text, 5), 6))));
        assert_eq!(parsed(&[0x82, 0xfe, 1, 0, 1, 2, 3, 4, 9], FRESH), Ok(Some((header(Opcode::Binary, 256), 8))));
        assert_eq!(
            parsed(&[0x80, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4], INSIDE),
            Ok(Some((header(Opcode::Continuation, 1 << 32), 14)))
        );
        assert_eq!(
            parsed(&[0xc1, 0x80, 1, 2, 3, 4], DEFLATE),
            Ok(Some((ClientHeader { rsv1: true, ..header(Opcode::Text, 0) }, 6)))
        );
    }

    #[test]
    fn lengths_need_not_be_minimal() {
        let len = |octets: &[u8]| parsed(octets, FRESH).unwrap().unwrap().0.len;
        assert_eq!(len(&[0x82, 0xfe, 0, 5, 1, 2, 3, 4]), 5);
        assert_eq!(len(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 125, 1, 2, 3, 4]), 125);
    }

    #[test]
    fn header_violations() {
        let violation = |octets: &[u8], expected| parsed(octets, expected).unwrap_err();
        assert_eq!(violation(&[0x81, 0x05], FRESH), Violation::Unmasked);
        for rsv in [0x10, 0x20, 0x30, 0x40, 0x70] {
            assert_eq!(violation(&[0x81 | rsv], FRESH), Violation::ReservedBit);
        }
        assert_eq!(violation(&[0x91], DEFLATE), Violation::ReservedBit);
        assert_eq!(violation(&[0xc0], Expected { continuation: true, compression: true }), Violation::ReservedBit);
        assert_eq!(violation(&[0xc9], DEFLATE), Violation::ReservedBit);
        for bits in (3..=7).chain(0xB..=0xF) {
            assert_eq!(violation(&[0x80 | bits], FRESH), Violation::ReservedOpcode(bits));
        }
        for control in [8, 9, 10] {
            assert_eq!(violation(&[control], FRESH), Violation::FragmentedControl);
            assert_eq!(violation(&[0x80 | control, 0x80 | 126], FRESH), Violation::LongControl);
            assert_eq!(violation(&[0x80 | control, 0x80 | 127], INSIDE), Violation::LongControl);
        }
        assert_eq!(violation(&[0x80], FRESH), Violation::NothingToContinue);
        assert_eq!(violation(&[0x01], INSIDE), Violation::Interleaved);
        assert_eq!(violation(&[0x82], INSIDE), Violation::Interleaved);
        assert_eq!(violation(&[0x82, 0xff, 0x80], FRESH), Violation::Length);
    }

    fn encoded(fin: bool, rsv1: bool, opcode: Opcode, len: u64) -> Vec<u8> {
        Header { fin, rsv1, opcode, len }.encode().to_vec()
    }

    #[test]
    fn lengths_are_minimal() {
        assert_eq!(encoded(true, false, Opcode::Text, 0), [0x81, 0]);
        assert_eq!(encoded(true, false, Opcode::Text, 125), [0x81, 125]);
        assert_eq!(encoded(true, false, Opcode::Binary, 126), [0x82, 126, 0, 126]);
        assert_eq!(encoded(true, false, Opcode::Binary, 255), [0x82, 126, 0, 255]);
        assert_eq!(encoded(false, true, Opcode::Text, 65_535), [0x41, 126, 0xff, 0xff]);
        assert_eq!(encoded(false, false, Opcode::Continuation, 65_536), [0, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn opcodes() {
        for bits in 0..=255u8 {
            match Opcode::new(bits) {
                Some(opcode) => assert_eq!(opcode.bits(), bits),
                None => assert!(matches!(bits, 3..=7 | 0xB..)),
            }
        }
        assert!(Opcode::Ping.is_control() && Opcode::Pong.is_control() && Opcode::Close.is_control());
        assert!(!Opcode::Text.is_control() && !Opcode::Binary.is_control() && !Opcode::Continuation.is_control());
    }
}
