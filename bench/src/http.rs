// SPDX-License-Identifier: Apache-2.0

//! Requests that are not measured themselves: one over a connection of its own, or many in a row over one that is kept.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};

use crate::link::PATIENCE;
use crate::sys;
use crate::wire::{self, wrong};

/// Requests that are sent before their answers are read.
const IN_FLIGHT: usize = 64;

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

/// Octets of the whole answer at the start of `input`, and of its head; none when more octets are needed.
///
/// # Errors
/// When it is no answer with a `Content-Length`, or one without a body.
pub fn answer_length(input: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let Some(head) = wire::head_length(input) else { return Ok(None) };
    let text = str::from_utf8(&input[..head]).map_err(|_| wrong("the answer's head is not text"))?;
    let length = match (status(text), wire::header(text, "Content-Length")) {
        (Some(204), _) => 0,
        (_, Some(length)) => length.parse().map_err(|_| wrong("Content-Length"))?,
        _ => return Err(wrong("an answer without Content-Length")),
    };
    Ok((input.len() >= head + length).then_some((head + length, head)))
}

/// The status of an answer's head.
pub fn status(head: &str) -> Option<u16> {
    head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// A request with a body, over a connection that is kept.
pub fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut request =
        format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    request.extend_from_slice(body);
    request
}

/// One request without a body, over a connection of its own.
///
/// # Errors
/// When there is no whole answer.
pub fn once(target: SocketAddrV4, method: &str, path: &str) -> io::Result<Response> {
    let mut stream = sys::connect(Ipv4Addr::LOCALHOST, target)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .as_bytes(),
    )?;
    let mut input = Vec::new();
    stream.read_to_end(&mut input)?;
    let head = wire::head_length(&input).ok_or_else(|| wrong("no whole answer"))?;
    let status = str::from_utf8(&input[..head]).ok().and_then(status).ok_or_else(|| wrong("no status"))?;
    Ok(Response { status, body: input.split_off(head) })
}

/// A connection over which requests are sent before the answers of earlier ones have come.
pub struct Pipeline {
    stream: TcpStream,
    out: Vec<u8>,
    waiting: usize,
    input: Vec<u8>,
}

impl Pipeline {
    /// Connects.
    ///
    /// # Errors
    /// When the server is not there.
    pub fn connect(target: SocketAddrV4) -> io::Result<Self> {
        let stream = sys::connect(Ipv4Addr::LOCALHOST, target)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, out: Vec::new(), waiting: 0, input: Vec::new() })
    }

    /// Publishes `body` to what is at `path`, some time before [`finish`](Self::finish) returns.
    ///
    /// # Errors
    /// When another publication was refused.
    pub fn publish(&mut self, path: &str, body: &[u8]) -> io::Result<()> {
        self.out.extend_from_slice(&post(path, body));
        self.waiting += 1;
        if self.waiting == IN_FLIGHT { self.finish() } else { Ok(()) }
    }

    /// Every publication is answered.
    ///
    /// # Errors
    /// When one was refused.
    pub fn finish(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        let mut buffer = [0; 16 * 1024];
        while self.waiting > 0 {
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                return Err(wrong("the server ended a publisher's connection"));
            }
            self.input.extend_from_slice(&buffer[..count]);
            let mut taken = 0;
            while let Some((length, head)) = answer_length(&self.input[taken..])? {
                let head = String::from_utf8_lossy(&self.input[taken..taken + head]);
                if !matches!(status(&head), Some(200..=202)) {
                    return Err(wrong(format!("publishing: {}", head.lines().next().unwrap_or_default())));
                }
                taken += length;
                self.waiting -= 1;
            }
            self.input.drain(..taken);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_whole_or_not() {
        let answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 3\r\n\r\nabc";
        for cut in 0..answer.len() {
            assert_eq!(answer_length(&answer[..cut]).unwrap(), None, "{cut}");
        }
        assert_eq!(answer_length(answer).unwrap(), Some((answer.len(), answer.len() - 3)));
        assert_eq!(answer_length(b"HTTP/1.1 204 No Content\r\n\r\nHTTP").unwrap(), Some((27, 27)));
        assert!(answer_length(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "nobody knows where it ends");
        assert_eq!(status("HTTP/1.0 200 OK"), None);
    }
}
