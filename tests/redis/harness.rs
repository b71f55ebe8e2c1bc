// SPDX-License-Identifier: Apache-2.0

//! A server of the test's own, and a connection to it that waits for what it asks.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ngx_ws_exec::redis::command;
use ngx_ws_exec::redis::connection::{Connection, End, Event, Purpose, Settings, Token};
use ngx_ws_exec::redis::notice::Notice;
use ngx_ws_exec::redis::resp::{Limits, Value};

/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Debian's servers, after the one that `TEST_WS_REDIS` names. One program is all of Redis: the name by which it is called tells which part it is.
const PROGRAMS: [&str; 2] = ["/usr/bin/redis-server", "/usr/bin/redis-check-rdb"];

/// A server that listens on a socket in a directory of its own, and ends with the value.
pub struct Server {
    child: Child,
    directory: PathBuf,
    arguments: Vec<String>,
}

impl Server {
    pub fn start(arguments: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("ws-exec-redis-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Server { child: spawn(&directory, &arguments), directory, arguments }
    }

    /// Kills the server and starts it anew, without anything that it had.
    pub fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.directory, &self.arguments);
    }

    /// A connection of the default user that is ready.
    pub fn connect(&self) -> Client {
        self.connect_as(None, None).unwrap()
    }

    /// A connection of a user, if the server lets it in.
    pub fn connect_as(&self, user: Option<&str>, password: Option<&str>) -> Result<Client, End> {
        let settings = Settings {
            purpose: Purpose::Master { prefix: b"ws:".to_vec() },
            user: user.map(str::to_owned),
            password: password.map(str::to_owned),
            database: 0,
            timeout: 10_000,
            most_pending: 1000,
            limits: Limits::default(),
        };
        let begun = Instant::now();
        let stream = loop {
            match UnixStream::connect(self.directory.join("socket")) {
                Ok(stream) => break stream,
                Err(error) if begun.elapsed() > PATIENCE => panic!("{error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Client { stream, connection: Connection::new(Rc::new(settings), 0, 10_000), next: 0 };
        match client.event() {
            Event::Ready(_) => Ok(client),
            Event::Ended(end) => Err(end),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the server has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn spawn(directory: &PathBuf, arguments: &[String]) -> Child {
    let given = std::env::var("TEST_WS_REDIS").ok();
    let mut programs = given.as_deref().into_iter().chain(PROGRAMS);
    let program = programs.find(|path| std::path::Path::new(path).exists());
    let program = program.expect("Debian's redis-tools is installed: scripts/install-test-needs.sh");
    let socket = directory.join("socket");
    let _ = std::fs::remove_file(&socket);
    Command::new(program)
        .arg0("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no", "--unixsocket"])
        .arg(&socket)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// A connection whose calls wait.
pub struct Client {
    stream: UnixStream,
    connection: Connection,
    next: u64,
}

impl Client {
    /// The next event.
    pub fn event(&mut self) -> Event {
        loop {
            if let Some(event) = self.connection.next_event() {
                return event;
            }
            let outgoing = self.connection.take_outgoing();
            if self.stream.write_all(&outgoing).is_ok() {
                self.connection.sent(outgoing.len());
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => self.connection.end(End::Lost),
                Ok(count) => self.connection.receive(&buffer[..count], 0),
                Err(error) => panic!("no answer: {error}"),
            }
        }
    }

    /// The next event, if there is one in this time.
    pub fn event_within(&mut self, time: Duration) -> Option<Event> {
        if let Some(event) = self.connection.next_event() {
            return Some(event);
        }
        let outgoing = self.connection.take_outgoing();
        match self.stream.write_all(&outgoing) {
            Ok(()) => self.connection.sent(outgoing.len()),
            Err(_) => self.connection.end(End::Lost),
        }
        self.stream.set_read_timeout(Some(time)).unwrap();
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.connection.end(End::Lost),
            Ok(count) => self.connection.receive(&buffer[..count], 0),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.connection.end(End::Lost),
        }
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.connection.next_event()
    }

    /// The connection itself.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Sends a command without waiting for its answer.
    pub fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Token {
        self.next += 1;
        self.connection.command(Token(self.next), 0, write).unwrap();
        Token(self.next)
    }

    /// The answer to a command.
    pub fn ask(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Value {
        let token = self.send(write);
        match self.event() {
            Event::Answered(answered, value) if answered == token => value,
            other => panic!("{other:?}"),
        }
    }

    /// The answer to a command of these words.
    pub fn words(&mut self, words: &[&str]) -> Value {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.ask(|out| command::append(&words, out))
    }

    /// Listens to a Pub/Sub channel.
    pub fn subscribe(&mut self, topic: &[u8]) {
        self.connection.subscribe(&[topic], 0).unwrap();
        assert_eq!(self.notice(), Notice::Subscribed { topic: topic.to_vec() });
    }

    /// The next event, which is a notice.
    pub fn notice(&mut self) -> Notice {
        match self.event() {
            Event::Notice(notice) => notice,
            other => panic!("{other:?}"),
        }
    }
}
