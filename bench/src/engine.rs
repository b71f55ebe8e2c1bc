// SPDX-License-Identifier: Apache-2.0

//! A Redis, as a bare node talks to it (RESP2), and as the benchmark asks it what it has done.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};

use crate::bare::{self, Input};
use crate::link::{Outbox, PATIENCE};
use crate::sys::{self, Epoll};
use crate::wire::wrong;

/// The script by which the module publishes.
const PUBLISH: &str =
    concat!(include_str!("../../src/redis/scripts/prelude.lua"), include_str!("../../src/redis/scripts/publish.lua"));

/// Tokens of the two connections.
const COMMANDS: u64 = u64::MAX - 1;
const LISTENING: u64 = u64::MAX - 2;

/// What has come from the engine.
pub enum News {
    /// What the publisher of this number has published is stored.
    Published(usize),
    /// A message of a channel.
    Message(String, Vec<u8>),
}

/// The connections of a node.
pub struct Engine {
    commands: Line,
    listening: Line,
    digest: String,
    /// Publishers in the order in which they are answered.
    waiting: VecDeque<usize>,
}

struct Line {
    stream: TcpStream,
    input: Vec<u8>,
    out: Outbox,
}

/// Words of a command ("Redis serialization protocol specification").
fn append(words: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// Octets of the reply at the start of `input`; none when it is not complete.
fn reply_length(input: &[u8]) -> Option<usize> {
    let line = input.windows(2).position(|two| two == b"\r\n")? + 2;
    let count = || str::from_utf8(&input[1..line - 2]).ok()?.parse::<i64>().ok();
    match input[0] {
        b'$' => {
            let end = usize::try_from(count()?).map_or(line, |length| line + length + 2);
            (input.len() >= end).then_some(end)
        }
        b'*' => {
            let mut at = line;
            for _ in 0..count()?.max(0) {
                at += reply_length(&input[at..])?;
            }
            Some(at)
        }
        _ => Some(line),
    }
}

/// The bulk strings of an array without others in it.
fn strings(reply: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut at = reply.windows(2).position(|two| two == b"\r\n").map_or(reply.len(), |at| at + 2);
    while let Some(length) = reply.get(at..).filter(|rest| !rest.is_empty()).and_then(reply_length) {
        let element = &reply[at..at + length];
        if let Some(head) = element.windows(2).position(|two| two == b"\r\n")
            && element[0] == b'$'
        {
            found.push(&element[head + 2..length - 2]);
        }
        at += length;
    }
    found
}

impl Line {
    fn connect(address: SocketAddrV4) -> io::Result<Self> {
        let stream = sys::connect(Ipv4Addr::LOCALHOST, address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, input: Vec::new(), out: Outbox::default() })
    }

    /// Whole replies that are there now.
    fn replies(&mut self, buffer: &mut [u8], mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match bare::read(&self.stream, buffer) {
            Input::Octets(count) => self.input.extend_from_slice(&buffer[..count]),
            Input::Nothing => return Ok(()),
            Input::End => return Err(wrong("the engine is gone")),
        }
        let mut at = 0;
        while let Some(length) = self.input.get(at..).filter(|rest| !rest.is_empty()).and_then(reply_length) {
            take(&self.input[at..at + length])?;
            at += length;
        }
        self.input.drain(..at);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.out.is_empty() && !self.out.flush(&self.stream)? {
            return Err(wrong("the engine takes no more commands"));
        }
        Ok(())
    }
}

impl Engine {
    /// Connects, and has the engine load the script.
    ///
    /// # Errors
    /// When the engine is not there or does not take it.
    pub fn connect(address: SocketAddrV4) -> io::Result<Self> {
        let (mut commands, listening) = (Line::connect(address)?, Line::connect(address)?);
        let mut load = Vec::new();
        append(&[b"SCRIPT", b"LOAD", PUBLISH.as_bytes()], &mut load);
        commands.stream.write_all(&load)?;
        let mut reply = [0; 47];
        commands.stream.read_exact(&mut reply)?;
        let digest = str::from_utf8(&reply[5..45]).map_err(|_| wrong("no digest"))?.to_owned();
        for line in [&commands, &listening] {
            line.stream.set_nonblocking(true)?;
        }
        Ok(Self { commands, listening, digest, waiting: VecDeque::new() })
    }

    /// Whether an event is one of these connections.
    pub fn is_token(token: u64) -> bool {
        token == COMMANDS || token == LISTENING
    }

    /// Watches the connections.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` reports.
    pub fn watch(&self, epoll: &Epoll) -> io::Result<()> {
        epoll.add(&self.commands.stream, sys::IN, COMMANDS)?;
        epoll.add(&self.listening.stream, sys::IN, LISTENING)
    }

    /// Listens to a channel.
    pub fn subscribe(&mut self, channel: &str) {
        append(&[b"SUBSCRIBE", format!("bare:{{{channel}}}").as_bytes()], &mut self.listening.out.octets);
    }

    /// Publishes, with the history that the module is given.
    pub fn publish(&mut self, channel: &str, body: &[u8], publisher: usize) {
        let name = format!("bare:{{{channel}}}");
        let [stream, hash, nodes] = [":m", ":h", ":n"].map(|end| format!("{name}{end}"));
        let words: [&[u8]; 13] = [
            b"EVALSHA",
            self.digest.as_bytes(),
            b"3",
            stream.as_bytes(),
            hash.as_bytes(),
            nodes.as_bytes(),
            b"1",
            body,
            b"1000",
            b"3600000",
            b"0",
            name.as_bytes(),
            b"PUBLISH",
        ];
        append(&words, &mut self.commands.out.octets);
        self.waiting.push_back(publisher);
    }

    /// Sends what was asked for.
    ///
    /// # Errors
    /// When the engine is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        self.commands.flush()?;
        self.listening.flush()
    }

    /// What has come by the connection of this token.
    ///
    /// # Errors
    /// When the engine is gone, or reports an error.
    pub fn receive(&mut self, token: u64, buffer: &mut [u8]) -> io::Result<Vec<News>> {
        let Self { commands, listening, waiting, .. } = self;
        let mut news = Vec::new();
        if token == COMMANDS {
            commands.replies(buffer, |reply| {
                if reply[0] != b'*' {
                    return Err(wrong(String::from_utf8_lossy(reply)));
                }
                news.extend(waiting.pop_front().map(News::Published));
                Ok(())
            })?;
        } else {
            listening.replies(buffer, |reply| {
                if let [b"message", name, text] = strings(reply)[..]
                    && let Some(name) = name.strip_prefix(b"bare:{").and_then(|name| name.strip_suffix(b"}"))
                    && let Some(head) = text.iter().position(|&octet| octet == b'\n')
                {
                    let name = String::from_utf8_lossy(name).into_owned();
                    news.push(News::Message(name, text[head + 1..].to_vec()));
                }
                Ok(())
            })?;
        }
        Ok(news)
    }
}

/// The value of a field of `INFO section`.
///
/// # Errors
/// When the server is not there, or tells no such number.
pub fn info(address: SocketAddrV4, section: &str, field: &str) -> io::Result<f64> {
    let mut stream = sys::connect(Ipv4Addr::LOCALHOST, address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("INFO {section}\r\nQUIT\r\n").as_bytes())?;
    for line in BufReader::new(stream).lines() {
        if let Some(value) = line?.strip_prefix(field) {
            let digits: String =
                value.chars().skip(1).take_while(|digit| digit.is_ascii_digit() || *digit == '.').collect();
            return digits.parse().map_err(|_| wrong(format!("{field} is no number")));
        }
    }
    Err(wrong(format!("no {field} in INFO {section}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_complete_or_not() {
        let reply = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$6\r\n1:2\r\nx\r\n";
        for cut in 0..reply.len() {
            assert_eq!(reply.get(..cut).filter(|part| !part.is_empty()).and_then(reply_length), None, "{cut}");
        }
        assert_eq!(reply_length(reply), Some(reply.len()));
        assert_eq!(strings(reply), [&b"message"[..], b"c", b"1:2\r\nx"]);
        assert_eq!(reply_length(b"*2\r\n*1\r\n:1\r\n$-1\r\n+OK"), Some(17));
    }
}
