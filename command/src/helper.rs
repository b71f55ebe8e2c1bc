// SPDX-License-Identifier: Apache-2.0

//! What nginx cannot answer itself, asked over SCGI on a socket of this run's own directory: scripts of `--cgidir`, and the names
//! of addresses for `--reverselookup`.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::system;

/// The largest head of a request that is read. nginx's own limit for the fields of a request is 32k by default.
const MAX_HEAD: usize = 1 << 20;

/// What the answers depend on.
pub struct Helper {
    pub cgi_dir: Option<PathBuf>,
    pub environment: Vec<(OsString, OsString)>,
    /// How many scripts run at once; 0 stands for no limit.
    pub max_forks: u64,
    running: AtomicU64,
}

/// The parameters of a request.
type Parameters = HashMap<Vec<u8>, Vec<u8>>;

impl Helper {
    pub fn new(cgi_dir: Option<PathBuf>, environment: Vec<(OsString, OsString)>, max_forks: u64) -> Self {
        Self { cgi_dir, environment, max_forks, running: AtomicU64::new(0) }
    }

    /// Answers each connection in a thread of its own, as long as this process runs.
    pub fn serve(self, listener: UnixListener) {
        let helper = Arc::new(self);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let helper = Arc::clone(&helper);
                thread::spawn(move || helper.answer(stream));
            }
        });
    }

    fn answer(&self, stream: UnixStream) {
        let Ok(reading) = stream.try_clone() else { return };
        let mut reader = BufReader::new(reading);
        let mut stream = stream;
        let Ok(parameters) = read_parameters(&mut reader) else { return };
        let said = match parameters.get(b"WS_EXEC_NAME_OF".as_slice()) {
            Some(address) => stream.write_all(&name_of(address)),
            None => self.run(&parameters, reader, &mut stream),
        };
        if let Err(error) = said {
            // nginx has gone, or the script could not be started: nginx answers 502 to a connection that ends without a head.
            eprintln!("ws-exec: CGI: {error}");
        }
        stream.shutdown(Shutdown::Both).ok();
    }

    /// The script that a request names, if it is a file below the directory.
    fn script(&self, parameters: &Parameters) -> Option<PathBuf> {
        let named = parameters.get(b"SCRIPT_FILENAME".as_slice())?;
        let directory = fs::canonicalize(self.cgi_dir.as_ref()?).ok()?;
        let script = fs::canonicalize(Path::new(OsStr::from_bytes(named))).ok()?;
        (script.starts_with(&directory) && script.is_file()).then_some(script)
    }

    fn run(&self, parameters: &Parameters, body: BufReader<UnixStream>, stream: &mut UnixStream) -> io::Result<()> {
        let Some(script) = self.script(parameters) else {
            return stream.write_all(b"Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\n404 Not Found\n");
        };
        let running = self.running.fetch_add(1, Ordering::Relaxed);
        let result = if self.max_forks > 0 && running >= self.max_forks {
            stream
                .write_all(b"Status: 429 Too Many Requests\r\nContent-Type: text/plain\r\n\r\n429 Too Many Requests\n")
        } else {
            self.run_script(&script, parameters, body, stream)
        };
        self.running.fetch_sub(1, Ordering::Relaxed);
        result
    }

    fn run_script(
        &self,
        script: &Path,
        parameters: &Parameters,
        body: BufReader<UnixStream>,
        stream: &mut UnixStream,
    ) -> io::Result<()> {
        let length =
            parameters.get(b"CONTENT_LENGTH".as_slice()).map(|octets| String::from_utf8_lossy(octets).into_owned());
        let length: u64 = length.and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut command = Command::new(script);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        for (name, value) in parameters {
            // `Proxy` is a field of the request and would be the name of a proxy for many programs.
            if name != b"SCGI" && name != b"HTTP_PROXY" {
                command.env(OsStr::from_bytes(name), OsStr::from_bytes(value));
            }
        }
        if let Some(directory) = script.parent() {
            command.current_dir(directory);
        }
        // The script is not to be hit by what is typed at the terminal, and signals are to be as a program expects them.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        system::with_default_signals(&mut command);
        let mut child = command.spawn().map_err(|error| io::Error::other(format!("{}: {error}", script.display())))?;
        if let Some(mut input) = child.stdin.take() {
            // A script need not read what it was sent.
            thread::spawn(move || io::copy(&mut body.take(length), &mut input));
        }
        let copied = match child.stdout.take() {
            Some(mut output) => io::copy(&mut output, stream).map(|_| ()),
            None => Ok(()),
        };
        if copied.is_err() {
            // The client has gone.
            system::kill_group(child.id());
        }
        child.wait()?;
        Ok(())
    }
}

/// Reads the head of a request of SCGI: a netstring of names and values, each ended by a zero.
fn read_parameters(reader: &mut impl BufRead) -> io::Result<Parameters> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let mut digits = Vec::new();
    reader.by_ref().take(10).read_until(b':', &mut digits)?;
    let digits = digits.strip_suffix(b":").ok_or_else(malformed)?;
    let length: usize = String::from_utf8_lossy(digits).parse().map_err(|_| malformed())?;
    if length > MAX_HEAD {
        return Err(malformed());
    }
    let mut head = vec![0; length + 1];
    reader.read_exact(&mut head)?;
    if head.pop() != Some(b',') || head.pop() != Some(0) {
        return Err(malformed());
    }
    let mut words = head.split(|octet| *octet == 0);
    let mut parameters = Parameters::new();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        parameters.insert(name.to_vec(), value.to_vec());
    }
    Ok(parameters)
}

/// The answer to the question for the name of an address: the address itself if it has none.
fn name_of(address: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(address);
    let name = text.parse::<IpAddr>().ok().and_then(system::name_of);
    let name = name.unwrap_or_else(|| OsString::from_vec(address.to_vec()));
    [b"Status: 204 No Content\r\nX-Remote-Host: ".as_slice(), name.as_bytes(), b"\r\n\r\n"].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn heads_are_netstrings() {
        let head = b"26:CONTENT_LENGTH\x000\x00SCGI\x001\x00\x00\x00,body";
        let mut reader = &head[..];
        let parameters = read_parameters(&mut reader).unwrap();
        assert_eq!(parameters[b"SCGI".as_slice()], b"1");
        assert_eq!(reader, b"body");
        for head in [&b"3:a\x00b,"[..], b"x:", b"99999999999:", b"3:a\x00\x00", b""] {
            assert!(read_parameters(&mut &head[..]).is_err());
        }
    }

    #[test]
    fn scripts_are_below_the_directory() {
        let helper = Helper::new(Some("/bin".into()), Vec::new(), 0);
        let script =
            |path: &str| helper.script(&Parameters::from([(b"SCRIPT_FILENAME".to_vec(), path.as_bytes().to_vec())]));
        assert!(script("/bin/ls").is_some() || script("/bin/true").is_some());
        assert!(script("/bin/../etc/passwd").is_none());
        assert!(script("/bin/").is_none());
    }
}
