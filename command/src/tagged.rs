// SPDX-License-Identifier: Apache-2.0

//! `--passstderr`: standard output and standard error of a program as one stream of messages, each a line that says where it
//! came from.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

/// The first argument of this command where it stands between nginx and the program. No flag of the command line looks like it.
pub const FLAG: &str = "--tagged-output-of";

/// Runs the program with the standard input of this process, and returns the status to end with.
pub fn run(command: &[OsString]) -> u8 {
    let Some((program, arguments)) = command.split_first() else { return 2 };
    let started = Command::new(program).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            eprintln!("{}: {error}", program.display());
            return 127;
        }
    };
    // The program has the standard input now; here it must not be held open by a second reader.
    let output = Mutex::new(io::stdout());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        if let Some(stream) = stdout {
            scope.spawn(|| relay(stream, "stdout", &output, false));
        }
        if let Some(stream) = stderr {
            scope.spawn(|| relay(stream, "stderr", &output, true));
        }
    });
    match child.wait() {
        Ok(status) => status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1) as u8,
        Err(_) => 1,
    }
}

fn relay(stream: impl Read, name: &str, output: &Mutex<io::Stdout>, is_logged: bool) {
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        if !matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
            return;
        }
        if is_logged {
            io::stderr().write_all(&line).ok();
        }
        let end = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = String::from_utf8_lossy(end.strip_suffix(b"\r").unwrap_or(end));
        let message = format!("{{\"stream\":\"{name}\",\"data\":{}}}\n", json(&text));
        let Ok(mut output) = output.lock() else { return };
        if output.write_all(message.as_bytes()).and_then(|()| output.flush()).is_err() {
            return;
        }
    }
}

/// A string of JSON (RFC 8259, section 7).
fn json(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\0'..'\x20' | '\x7f' | '\u{2028}' | '\u{2029}' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(letter)))
            }
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_json() {
        assert_eq!(json("a \"b\" \\ \t\u{1} é"), r#""a \"b\" \\ \u0009\u0001 é""#);
    }
}
