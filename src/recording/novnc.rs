// SPDX-License-Identifier: Apache-2.0

//! A script for the playback of noVNC (`tests/vnc_playback.html` there).
//!
//! noVNC wants an array `VNC_frame_data` of strings: `{` for what the service says and `}` for what the client says, the time in
//! milliseconds, `{`, and the octets in base64. websockify writes it as one expression, which is nothing before its end has
//! come. Here each line is a statement of its own, so that a recording can be played wherever it ends.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Direction, Missing, Piece};

/// The first line.
pub const HEADER: &str = "var VNC_frame_encoding = \"base64\", VNC_frame_data = [];\n";

/// Appends a piece of a message. To noVNC all of them are one stream of octets. Returns how many there are.
pub(super) fn piece(time: u64, piece: &Piece<'_>, line: &mut String) -> usize {
    if piece.payload.is_empty() {
        return 0;
    }
    let side = match piece.direction {
        Direction::In => '}',
        Direction::Out => '{',
    };
    // Writing to a string does not fail.
    let _ = write!(line, "VNC_frame_data.push(\"{side}{time}{{");
    STANDARD.encode_string(piece.payload, line);
    line.push_str("\");\n");
    piece.payload.len()
}

/// Appends that something is missing.
pub(super) fn lost(missing: Missing, line: &mut String) {
    let Missing { messages, octets } = missing;
    // Writing to a string does not fail.
    let _ = writeln!(line, "// lost: {messages} messages, {octets} octets");
}

/// Appends the end.
pub(super) fn end(line: &mut String) {
    line.push_str("VNC_frame_data.push(\"EOF\");\n");
}
