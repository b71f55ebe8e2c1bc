// SPDX-License-Identifier: Apache-2.0

//! Files that change while somebody asks for tokens.

use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::*;

/// A directory of a test, and a clock that the test turns.
struct Place {
    root: PathBuf,
    now: u64,
    said: Vec<String>,
}

impl Place {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("ws-tokens-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        Place { root, now: 0, said: Vec::new() }
    }

    /// Writes a file where it is, `age` seconds ago.
    fn write(&self, name: &str, text: &str, age: u64) {
        let path = self.root.join(name);
        fs::write(&path, text).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }

    fn tokens(&self, name: &str) -> Tokens {
        Tokens::new(self.root.join(name).as_os_str().as_bytes())
    }

    fn ask(&mut self, tokens: &Tokens, token: &str) -> Option<String> {
        let target = tokens.target(token.as_bytes(), self.now, &mut |text| self.said.push(text.to_owned()));
        target.map(|target| String::from_utf8(target).unwrap())
    }

    /// A second later.
    fn later(&mut self, tokens: &Tokens, token: &str) -> Option<String> {
        self.now += INTERVAL;
        self.ask(tokens, token)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// When a file is written so that it is not new for anybody, but another one than before.
const OLD: u64 = 100;

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_file_is_looked_at_once_a_second() {
    let mut place = Place::new("once");
    place.write("t", "a: h:1\n", OLD);
    let tokens = place.tokens("t");
    assert_eq!(place.ask(&tokens, "a"), some("h:1"));
    assert_eq!(place.ask(&tokens, "b"), None);
    place.write("t", "b: h:2\n", OLD - 50);
    place.now += INTERVAL - 1;
    assert_eq!(place.ask(&tokens, "b"), None, "not a second later");
    place.now += 1;
    assert_eq!(place.ask(&tokens, "b"), some("h:2"));
    assert_eq!(place.ask(&tokens, "a"), None);
    assert!(place.said.is_empty(), "{:?}", place.said);
}

#[test]
fn a_file_that_is_being_written_takes_nothing_away() {
    let mut place = Place::new("half");
    place.write("t", "a: h:1\nb: h:2\n", OLD);
    let tokens = place.tokens("t");
    assert_eq!(place.ask(&tokens, "a"), some("h:1"));
    place.write("t", "", 0);
    assert_eq!(place.later(&tokens, "a"), some("h:1"), "emptied");
    place.write("t", "c: h:3\na: h:11\nb: h:2", 0);
    place.now += INTERVAL;
    for (token, target) in [("a", "h:11"), ("b", "h:2"), ("c", "h:3")] {
        assert_eq!(place.ask(&tokens, token), some(target));
    }
    place.write("t", "c: h:3\na: h:11\nb: h:22\n", 0);
    assert_eq!(place.later(&tokens, "b"), some("h:22"));
    place.write("t", "c: h:3\n", 0);
    assert_eq!(place.later(&tokens, "a"), some("h:11"), "may still come");
    assert_eq!(place.later(&tokens, "a"), None, "the file has rested");
    assert_eq!(place.ask(&tokens, "c"), some("h:3"));
    assert!(place.said.is_empty(), "{:?}", place.said);
}

#[test]
fn a_file_that_ends_in_a_line_keeps_what_was_known() {
    let mut place = Place::new("cut");
    place.write("t", "a: h:1\nb: h:2\n", OLD);
    let tokens = place.tokens("t");
    assert_eq!(place.ask(&tokens, "b"), some("h:2"));
    place.write("t", "a: h:11\nb", OLD - 10);
    assert_eq!(place.later(&tokens, "b"), some("h:2"));
    assert_eq!(place.ask(&tokens, "a"), some("h:11"));
    assert_eq!(place.said.len(), 1, "{:?}", place.said);
    assert_eq!(place.later(&tokens, "b"), some("h:2"));
    assert_eq!(place.said.len(), 1, "said once");
    place.write("t", "a: h:1\nc: h:3", OLD - 20);
    assert_eq!(place.later(&tokens, "c"), some("h:3"), "a last line without a newline is one");
    assert_eq!(place.ask(&tokens, "b"), None);
}

#[test]
fn a_file_that_cannot_be_read_keeps_what_was_known() {
    let mut place = Place::new("gone");
    let tokens = place.tokens("t");
    assert_eq!(place.ask(&tokens, "a"), None);
    assert_eq!(place.said.len(), 1);
    place.write("t", "a: h:1\n", OLD);
    assert_eq!(place.later(&tokens, "a"), some("h:1"));
    fs::remove_file(place.root.join("t")).unwrap();
    assert_eq!(place.later(&tokens, "a"), some("h:1"));
    assert_eq!(place.later(&tokens, "a"), some("h:1"));
    assert_eq!(place.said.len(), 2, "said once: {:?}", place.said);
    place.write("t", &"#".repeat(MAX_SIZE as usize + 1), OLD);
    assert_eq!(place.later(&tokens, "a"), some("h:1"), "too large");
    assert_eq!(place.said.len(), 3, "{:?}", place.said);
    place.write("t", "b: h:1\nnonsense\n", OLD);
    assert_eq!(place.later(&tokens, "b"), some("h:1"));
    assert!(place.said.last().unwrap().ends_with("t\", line 2: no \"token: host:port\""), "{:?}", place.said);
    assert_eq!(place.said.iter().filter(|text| text.contains("nonsense")).count(), 0, "secrets are not told");
}

#[test]
fn a_fifo_holds_nobody_up() {
    let mut place = Place::new("fifo");
    assert!(std::process::Command::new("mkfifo").arg(place.root.join("t")).status().unwrap().success());
    let tokens = place.tokens("t");
    assert_eq!(place.ask(&tokens, "a"), None);
    assert_eq!(place.said.len(), 1);
}

#[test]
fn a_directory() {
    let mut place = Place::new("directory");
    fs::create_dir(place.root.join("d")).unwrap();
    fs::create_dir(place.root.join("d/sub")).unwrap();
    place.write("d/1", "a: h:1\nb: h:1\n", OLD);
    place.write("d/2", "a: h:2\n", OLD);
    place.write("d/.hidden", "h: h:1\n", OLD);
    place.write("outside", "o: h:1\n", OLD);
    let _socket = UnixListener::bind(place.root.join("d/vm")).unwrap();
    let _outside = UnixListener::bind(place.root.join("docker")).unwrap();
    std::os::unix::fs::symlink("../docker", place.root.join("d/link")).unwrap();
    std::os::unix::fs::symlink("../outside", place.root.join("d/3")).unwrap();
    for name in ["d/", "d"] {
        let tokens = place.tokens(name);
        assert_eq!(place.ask(&tokens, "a"), some("h:2"), "the last file counts");
        assert_eq!(place.ask(&tokens, "b"), some("h:1"));
        assert_eq!(place.ask(&tokens, "o"), some("h:1"));
        assert_eq!(place.ask(&tokens, "vm"), some(&format!("unix:{}/d/vm", place.root.display())));
        for token in ["../docker", "link", "sub/../vm", "./vm", "/vm", "h", "", "1", "vm\0", "."] {
            assert_eq!(place.ask(&tokens, token), None, "{token}");
        }
    }
    let tokens = place.tokens("d/");
    assert_eq!(place.ask(&tokens, "a"), some("h:2"));
    fs::remove_file(place.root.join("d/2")).unwrap();
    place.write("d/4", "n: h:4\n", 0);
    assert_eq!(place.later(&tokens, "a"), some("h:1"), "a file that was removed is gone at once");
    assert_eq!(place.ask(&tokens, "n"), some("h:4"));
    fs::rename(place.root.join("d"), place.root.join("e")).unwrap();
    assert_eq!(place.later(&tokens, "n"), some("h:4"));
    assert_eq!(place.later(&tokens, "n"), some("h:4"));
    assert_eq!(place.said.len(), 1, "{:?}", place.said);
    let tokens = place.tokens("outside/");
    assert_eq!(place.ask(&tokens, "o"), None, "a file is no directory");
}

#[test]
fn a_directory_without_end() {
    let mut place = Place::new("many");
    place.write("t", "a: h:1\n", OLD);
    let tokens = place.tokens("");
    assert_eq!(place.ask(&tokens, "a"), some("h:1"));
    for number in 0..MAX_NAMES {
        File::create(place.root.join(number.to_string())).unwrap();
    }
    fs::remove_file(place.root.join("t")).unwrap();
    File::create(place.root.join("one-more")).unwrap();
    assert_eq!(place.later(&tokens, "a"), some("h:1"));
    assert_eq!(place.said.len(), 1, "{:?}", place.said);
}
