// SPDX-License-Identifier: Apache-2.0

//! Load: a client that asks a worker once in a millisecond, and so sees from outside for how long the worker's event loop did nothing
//! but one thing.
//!
//! A probe of a session has its connection before anything happens, and so stays with the worker that accepted it, also when that one
//! was told to go. A probe of connections opens a new one for each request and is answered by whichever worker accepts.

use std::io::{self, Read, Write};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::link::{self, Opened, PATIENCE, Reader};
use crate::sys;
use crate::wire::{self, BINARY, CLOSE, PING, TEXT, wrong};

/// From one request to the next one, unless the answer takes longer.
const INTERVAL: Duration = Duration::from_millis(1);

/// What is sent in a session, and answered by one message.
const QUESTION: &[u8] = b"?";

/// One request and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// When it was asked.
    pub asked: Instant,
    /// How long the answer took.
    pub took: Duration,
}

/// What a probe has seen.
#[derive(Clone, Debug)]
pub struct Answers(Vec<Answer>);

impl Answers {
    /// The longest time without an answer beyond the median of all, among those that were waited for between `from` and `to`. None
    /// where none was.
    pub fn pause(&self, from: Instant, to: Instant) -> Option<Duration> {
        let mut all: Vec<Duration> = self.0.iter().map(|answer| answer.took).collect();
        all.sort_unstable();
        let median = *all.get(all.len() / 2)?;
        let waited_for = |answer: &&Answer| answer.asked <= to && answer.asked + answer.took >= from;
        let longest = self.0.iter().filter(waited_for).map(|answer| answer.took).max()?;
        Some(longest.saturating_sub(median))
    }
}

/// A client that asks until it is told to end.
pub struct Probe {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Vec<Answer>>>,
}

impl Probe {
    /// Asks by a WebSocket, which is open when this returns. Each message has to be answered by one.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn of_session(target: SocketAddrV4, path: &str) -> io::Result<Self> {
        let Opened { mut stream, early, .. } = link::open(link::source(0), target, path, "")?;
        if !early.is_empty() {
            return Err(wrong("a message before the first question"));
        }
        stream.set_nonblocking(false)?;
        let mut reader = Reader::default();
        let mut out = Vec::new();
        wire::write_masked(TEXT, false, QUESTION, &mut out);
        Ok(Self::start(move || {
            stream.write_all(&out)?;
            let mut answered = false;
            let mut buffer = [0; 4096];
            while !answered {
                let count = stream.read(&mut buffer)?;
                if count == 0 {
                    return Err(wrong("the server ended the connection of a probe"));
                }
                reader.feed(&buffer[..count], |piece| match piece.frame.opcode {
                    TEXT | BINARY => {
                        answered |= piece.is_last();
                        Ok(())
                    }
                    CLOSE => Err(wrong(format!("the server closed a probe: {:?}", piece.data))),
                    PING => Err(wrong("the server pings a probe")),
                    _ => Ok(()),
                })?;
            }
            Ok(())
        }))
    }

    /// Asks by requests over new connections.
    pub fn of_connections(target: SocketAddrV4, path: &str) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        Self::start(move || {
            let mut stream = sys::connect(link::source(0), target)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            let is_good = answer.starts_with(b"HTTP/1.1 2") && wire::head_length(&answer).is_some();
            if is_good { Ok(()) } else { Err(wrong("not the answer that a probe expects")) }
        })
    }

    fn start(mut ask: impl FnMut() -> io::Result<()> + Send + 'static) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let mut answers = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                ask()?;
                let took = asked.elapsed();
                answers.push(Answer { asked, took });
                thread::sleep(INTERVAL.saturating_sub(took));
            }
            Ok(answers)
        });
        Self { is_over, thread }
    }

    /// Ends it.
    ///
    /// # Errors
    /// When an answer did not come, or was a wrong one.
    pub fn end(self) -> io::Result<Answers> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| wrong("a probe has panicked"))?.map(Answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_what_goes_beyond_the_median() {
        let begun = Instant::now();
        let at = |milliseconds| begun + Duration::from_millis(milliseconds);
        let answer = |asked, took| Answer { asked: at(asked), took: Duration::from_millis(took) };
        let answers = Answers(vec![answer(0, 2), answer(2, 30), answer(32, 2), answer(34, 12), answer(46, 3)]);
        let pause = |from, to| answers.pause(at(from), at(to)).map(|pause| pause.as_millis());
        assert_eq!(pause(0, 100), Some(27));
        assert_eq!(pause(20, 25), Some(27), "it was waited for all that time");
        assert_eq!(pause(33, 100), Some(9));
        assert_eq!(pause(47, 48), Some(0));
        assert_eq!(pause(50, 60), None, "nobody has asked");
        assert!(Answers(Vec::new()).pause(begun, at(1)).is_none());
    }
}
