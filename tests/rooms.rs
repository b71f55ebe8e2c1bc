// SPDX-License-Identifier: Apache-2.0

//! The rooms of `docs/architecture.md` are held against the imports: an arrow that is not in its drawing fails here.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What a room may use, itself left out. `json` has no room of its own: it is a function that every room may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("ws", &[]),
    ("exec", &["ws"]),
    ("channel", &["ws"]),
    ("tcp", &["ws"]),
    ("status", &["channel", "ws"]),
    ("ledger", &["status"]),
    ("redis", &["channel", "ws"]),
    ("recording", &["exec", "ws"]),
    ("conf", &["channel", "exec", "recording", "redis", "status", "tcp", "ws"]),
    ("session", &["channel", "exec", "ledger", "recording", "status", "ws"]),
    ("nginx", &["channel", "conf", "exec", "ledger", "recording", "redis", "session", "status", "tcp", "ws"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The rooms that a source names: `crate::room`.
fn named(source: &str) -> BTreeSet<&str> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.match_indices("crate::").map(move |(at, prefix)| &line[at + prefix.len()..]))
        .map(|rest| rest.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_').next().unwrap())
        .collect()
}

#[test]
fn arrows_go_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (room, below) in ARROWS {
        let mut files = Vec::new();
        let file = root.join(format!("{room}.rs"));
        if file.exists() {
            files.push(file);
        }
        if root.join(room).exists() {
            sources(&root.join(room), &mut files);
        }
        assert!(!files.is_empty(), "there is no room {room}");
        for file in files {
            let source = fs::read_to_string(&file).unwrap();
            for other in named(&source) {
                let is_room = ARROWS.iter().any(|(name, _)| *name == other);
                if is_room && other != *room && !below.contains(&other) {
                    let file = file.strip_prefix(&root).unwrap().display();
                    wrong.push(format!("{file} uses crate::{other}: what both need belongs below {room}, and what is the other's into it"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that docs/architecture.md does not draw:\n{}", wrong.join("\n"));
}

#[test]
fn nginx_is_known_in_one_room_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    for file in files.iter().filter(|file| !file.starts_with(root.join("nginx"))) {
        let source = fs::read_to_string(file).unwrap();
        let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        let names = code.filter(|line| line.contains("ffi::ngx_") || line.contains("nginx::ffi")).collect::<Vec<_>>();
        assert!(names.is_empty(), "{} names types of nginx: {names:?}", file.display());
    }
}

#[test]
fn the_drawing_is_this_one() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md")).unwrap();
    let drawing = text.split("```mermaid\nflowchart TD\n").nth(1).unwrap().split("```").next().unwrap();
    let name = |node: &str| node.split('[').next().unwrap().trim().to_owned();
    let drawn: BTreeSet<(String, String)> =
        drawing.lines().filter_map(|line| line.split_once("-->")).map(|(from, to)| (name(from), name(to))).collect();
    let allowed: BTreeSet<(String, String)> = ARROWS
        .iter()
        .flat_map(|(room, below)| below.iter().map(|other| ((*room).to_owned(), (*other).to_owned())))
        .collect();
    // What everybody may use is drawn once, where it is used most.
    let missing: Vec<_> = allowed.difference(&drawn).filter(|(from, to)| !(from == "nginx" && to == "ws")).collect();
    assert!(missing.is_empty(), "not drawn: {missing:?}");
    let surplus: Vec<_> = drawn.difference(&allowed).collect();
    assert!(surplus.is_empty(), "drawn, but not allowed: {surplus:?}");
}
