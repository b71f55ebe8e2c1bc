// SPDX-License-Identifier: Apache-2.0

//! The error log.

use std::fmt::{self, Write};

use super::ffi;
use crate::session::host::Severity;

/// Severities of nginx's error log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Level {
    /// The configuration cannot be used.
    Emerg = 1,
    /// Something is broken.
    Crit = 3,
    /// A session or a program failed.
    Error = 4,
    /// What a program writes to its standard error, and the like.
    Warn = 5,
    /// What an administrator wants to know though nothing failed.
    Notice = 6,
    /// What clients do.
    Info = 7,
}

impl From<Severity> for Level {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Error => Level::Error,
            Severity::Info => Level::Info,
        }
    }
}

/// nginx cuts lines at 2048 octets; longer text is not worth formatting.
const LONGEST: usize = 2048;

/// Text for the log: what is not printable ASCII is escaped, so that nobody can forge a line or a terminal's colours.
struct Line {
    text: Vec<u8>,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &octet in text.as_bytes() {
            if self.text.len() >= LONGEST {
                break;
            }
            match octet {
                b' '..=b'~' => self.text.push(octet),
                _ => self.text.extend_from_slice(&[b'\\', b'x', hexadecimal(octet >> 4), hexadecimal(octet & 15)]),
            }
        }
        Ok(())
    }
}

fn hexadecimal(digit: u8) -> u8 {
    match digit {
        0..=9 => b'0' + digit,
        _ => b'A' + (digit - 10),
    }
}

/// Octets that may not be text, for a line of the log: escaped like everything else.
pub struct Octets<'a>(pub &'a [u8]);

impl fmt::Display for Octets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            for octet in chunk.invalid() {
                write!(f, "\\x{octet:02X}")?;
            }
        }
        Ok(())
    }
}

fn line(text: fmt::Arguments<'_>) -> Line {
    let mut line = Line { text: Vec::with_capacity(256) };
    // Writing to memory does not fail.
    let _ = line.write_fmt(text);
    line
}

/// Writes one line to `log`, which may belong to a connection and then names its client and request.
pub fn write(log: *mut ffi::ngx_log_t, level: Level, text: fmt::Arguments<'_>) {
    // SAFETY: a log is only passed while the connection or the cycle that owns it lives.
    unsafe {
        if (*log).log_level >= level as usize {
            let line = line(text);
            ffi::ngx_ws_log(level as usize, log, 0, line.text.as_ptr(), line.text.len());
        }
    }
}

/// Writes one line to the log of the running cycle.
pub fn cycle(level: Level, text: fmt::Arguments<'_>) {
    // SAFETY: nginx sets ngx_cycle before any module is called and never to a cycle without a log.
    let log = unsafe { (*ffi::ngx_cycle).log };
    write(log, level, text);
}

/// Writes one line about the directive that is being read; nginx appends file and line.
pub fn configuration(cf: *mut ffi::ngx_conf_t, text: fmt::Arguments<'_>) {
    let line = line(text);
    // SAFETY: cf is the pointer nginx passed to the directive's handler.
    unsafe { ffi::ngx_ws_conf_log(Level::Emerg as usize, cf, line.text.as_ptr(), line.text.len()) };
}
