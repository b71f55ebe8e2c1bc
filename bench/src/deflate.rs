// SPDX-License-Identifier: Apache-2.0

//! permessage-deflate (RFC 7692) on the client's side.

use std::io;

use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::deflate::stream::deflate;
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush};

use crate::wire::wrong;

/// What a sync flush ends with, left out on the wire (section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// JSON of exactly `length` octets, like what applications send: field names repeat, values differ.
pub fn sample(turn: usize, length: usize) -> Vec<u8> {
    let mut text = format!(r#"{{"turn":{turn},"items":["#);
    let mut state = turn as u64 * 2_654_435_761 + 12_345;
    while text.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (id, price) = (state >> 40, state >> 52);
        text.push_str(&format!(r#"{{"id":{id},"name":"item-{}","price":{price},"stock":true}},"#, id % 977));
    }
    text.truncate(length);
    text.into_bytes()
}

/// One message, compressed without reference to any other.
pub fn compress(message: &[u8]) -> Vec<u8> {
    // A negative window means a raw stream, with no zlib header.
    let mut state = CompressorOxide::new(create_comp_flags_from_zip_params(6, -15, 0));
    let mut out = vec![0; message.len() + 64];
    let result = deflate(&mut state, message, &mut out, MZFlush::Sync);
    out.truncate(result.bytes_written);
    if out.ends_with(&TAIL) {
        out.truncate(out.len() - TAIL.len());
    }
    out
}

/// Inflates the messages of one connection, one after the other, with the context kept.
pub struct Inflater {
    state: Box<InflateState>,
    /// The message so far.
    pub message: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { state: InflateState::new_boxed(DataFormat::Raw), message: Vec::new() }
    }
}

impl Inflater {
    /// Takes a stretch of a message's payload.
    ///
    /// # Errors
    /// When it is not a deflate stream.
    pub fn feed(&mut self, mut input: &[u8]) -> io::Result<()> {
        let mut out = [0; 4096];
        loop {
            let result = inflate(&mut self.state, input, &mut out, MZFlush::None);
            input = &input[result.bytes_consumed..];
            self.message.extend_from_slice(&out[..result.bytes_written]);
            match result.status {
                Ok(_) if input.is_empty() && result.bytes_written < out.len() => return Ok(()),
                Ok(_) => {}
                Err(MZError::Buf) if input.is_empty() => return Ok(()),
                Err(error) => return Err(wrong(format!("inflating: {error:?}"))),
            }
        }
    }

    /// The message has ended.
    ///
    /// # Errors
    /// When its end does not belong to a deflate stream.
    pub fn end(&mut self) -> io::Result<()> {
        self.feed(&TAIL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_one_after_the_other() {
        let mut inflater = Inflater::default();
        for turn in 0..100 {
            let plain = sample(turn, 5000);
            let compressed = compress(&plain);
            assert!(compressed.len() < plain.len() / 2);
            let (head, tail) = compressed.split_at(turn);
            inflater.feed(head).unwrap();
            inflater.feed(tail).unwrap();
            inflater.end().unwrap();
            assert_eq!(inflater.message, plain);
            inflater.message.clear();
        }
    }
}
