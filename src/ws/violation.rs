// SPDX-License-Identifier: Apache-2.0

//! What a client can do wrong, and the Close that it gets for it.

use super::close::{CloseCode, InvalidClose};
use super::utf8::InvalidUtf8;

/// A client broke a rule. Nothing that it sends afterwards is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// A frame without a mask (RFC 6455, section 5.1).
    Unmasked,
    /// RSV2 or RSV3, which no extension defines; RSV1 where no compressed message begins (RFC 6455, section 5.2;
    /// RFC 7692, section 6).
    ReservedBit,
    /// An opcode of 3-7 or B-F (RFC 6455, section 5.2).
    ReservedOpcode(u8),
    /// A control frame of more than 125 octets (RFC 6455, section 5.5).
    LongControl,
    /// A control frame without FIN (RFC 6455, section 5.5).
    FragmentedControl,
    /// A 64-bit length with its top bit set (RFC 6455, section 5.2).
    Length,
    /// A continuation while there is no message to continue (RFC 6455, section 5.4).
    NothingToContinue,
    /// A new message inside a fragmented one (RFC 6455, section 5.4).
    Interleaved,
    /// The payload of a Close is wrong (RFC 6455, sections 5.5.1 and 7.4).
    Close(InvalidClose),
    /// A text message is not UTF-8 (RFC 6455, section 8.1).
    Text,
    /// A compressed message cannot be inflated (RFC 7692, section 6.2).
    Deflate,
    /// A frame is longer than the limit for frames.
    FrameTooBig,
    /// A message is longer than the limit for messages.
    MessageTooBig,
    /// A message has more fragments than the limit.
    TooManyFragments,
}

impl Violation {
    /// The code of the Close that answers it.
    pub const fn code(self) -> CloseCode {
        match self {
            Self::Unmasked
            | Self::ReservedBit
            | Self::ReservedOpcode(_)
            | Self::LongControl
            | Self::FragmentedControl
            | Self::Length
            | Self::NothingToContinue
            | Self::Interleaved
            | Self::Close(InvalidClose::Length | InvalidClose::Code(_)) => CloseCode::PROTOCOL_ERROR,
            Self::Close(InvalidClose::Reason) | Self::Text | Self::Deflate => CloseCode::INVALID_DATA,
            Self::FrameTooBig | Self::MessageTooBig => CloseCode::TOO_BIG,
            Self::TooManyFragments => CloseCode::POLICY,
        }
    }

    /// The reason of the Close that answers it, also fit for a log.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Unmasked => "frame without mask",
            Self::ReservedBit => "reserved bit",
            Self::ReservedOpcode(_) => "reserved opcode",
            Self::LongControl => "control frame over 125 octets",
            Self::FragmentedControl => "fragmented control frame",
            Self::Length => "frame length over 63 bits",
            Self::NothingToContinue => "continuation without a message",
            Self::Interleaved => "message inside a fragmented message",
            Self::Close(InvalidClose::Length) => "close payload of one octet",
            Self::Close(InvalidClose::Code(_)) => "invalid close code",
            Self::Close(InvalidClose::Reason) => "close reason is not UTF-8",
            Self::Text => "text is not UTF-8",
            Self::Deflate => "corrupt compressed data",
            Self::FrameTooBig => "frame too big",
            Self::MessageTooBig => "message too big",
            Self::TooManyFragments => "too many fragments",
        }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())?;
        match self {
            Self::ReservedOpcode(bits) => write!(f, " {bits:X}"),
            Self::Close(InvalidClose::Code(number)) => write!(f, " {number}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Violation {}

impl From<InvalidUtf8> for Violation {
    fn from(_: InvalidUtf8) -> Self {
        Self::Text
    }
}

impl From<InvalidClose> for Violation {
    fn from(wrong: InvalidClose) -> Self {
        Self::Close(wrong)
    }
}
