//! Frames (RFC 6455, section 5.2).

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

#[cfg(test)]
mod tests {
    use super::*;

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
