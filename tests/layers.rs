// SPDX-License-Identifier: Apache-2.0

//! The layers of `src/nginx` are held against its imports: a file uses what is in its own layer or below.
//!
//! What each layer is for is in `docs/architecture.md`. A file is named by its path below `src/nginx`, without `.rs` and `mod`.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, the lowest first, and what belongs into each of them.
const LAYERS: &[(&str, &str)] = &[
    ("core", "what knows nginx and neither a request nor a location: bindings, log, timers, pipes, sockets, users"),
    ("request", "what is about one request or about the values of a location, whatever its endpoint is"),
    ("shm", "what the workers share: counters, the zone of the channels, their wake-ups"),
    (
        "engine",
        "what a worker has once: its clients, the hub, spawners, hooks, engines; and the session on its connection",
    ),
    (
        "endpoints",
        "what a session is connected to, or a request that waits: programs, services, channels, shared programs",
    ),
    ("http", "which endpoint a request comes to, and the locations that answer by themselves: status, group"),
    ("root", "what nginx finds in the module: directives, variables, settings, beginning and end of a worker"),
];

const FILES: &[(&str, &str)] = &[
    ("acceptance", "request"),
    ("address", "core"),
    ("amount", "request"),
    ("auth_basic", "request"),
    ("backend", "engine"),
    ("backend/erratic", "engine"),
    ("backend/zone", "engine"),
    ("caller", "request"),
    ("capacity", "request"),
    ("cgi", "http"),
    ("cgi/program", "http"),
    ("cgi/request", "http"),
    ("cgi/response", "http"),
    ("channel", "endpoints"),
    ("channel/access", "endpoints"),
    ("channel/answer", "endpoints"),
    ("channel/approval", "endpoints"),
    ("channel/dead", "engine"),
    ("channel/departures", "endpoints"),
    ("channel/events", "endpoints"),
    ("channel/failure", "endpoints"),
    ("channel/group", "http"),
    ("channel/hub", "engine"),
    ("channel/hub/operations", "engine"),
    ("channel/hub/turns", "engine"),
    ("channel/limits", "endpoints"),
    ("channel/link", "endpoints"),
    ("channel/listing", "engine"),
    ("channel/member", "endpoints"),
    ("channel/multiplex", "endpoints"),
    ("channel/multiplex/commands", "endpoints"),
    ("channel/multiplex/outcome", "endpoints"),
    ("channel/programs", "engine"),
    ("channel/publish", "endpoints"),
    ("channel/run", "endpoints"),
    ("channel/subscribers", "endpoints"),
    ("channel/subscription", "endpoints"),
    ("channel/transports", "endpoints"),
    ("channel/waiting", "endpoints"),
    ("channel/waiting/response", "endpoints"),
    ("channel/waiting/source", "endpoints"),
    ("channel/wakeups", "shm"),
    ("channel/websocket", "endpoints"),
    ("channel/zone", "shm"),
    ("client", "request"),
    ("commands", "root"),
    ("conf_ctx", "core"),
    ("connection", "core"),
    ("console", "request"),
    ("content", "http"),
    ("detached", "engine"),
    ("detached/exchanges", "engine"),
    ("engine", "engine"),
    ("engine/address", "engine"),
    ("engine/backend", "engine"),
    ("engine/cluster", "engine"),
    ("engine/copies", "engine"),
    ("engine/figures", "engine"),
    ("engine/line", "engine"),
    ("engine/link", "engine"),
    ("engine/listeners", "engine"),
    ("engine/one", "engine"),
    ("engine/relay", "engine"),
    ("engine/sentinels", "engine"),
    ("engine/servers", "engine"),
    ("engine/settings", "engine"),
    ("exhaustion", "core"),
    ("ffi", "core"),
    ("guard", "core"),
    ("heap", "core"),
    ("hold", "request"),
    ("identity", "core"),
    ("layout", "core"),
    ("ledger", "shm"),
    ("listeners", "engine"),
    ("log", "core"),
    ("main_settings", "root"),
    ("module", "root"),
    ("module_file", "core"),
    ("origin", "request"),
    ("pipe", "core"),
    ("process", "core"),
    ("process_state", "core"),
    ("program", "endpoints"),
    ("program/check", "endpoints"),
    ("program/client", "endpoints"),
    ("program/command", "endpoints"),
    ("program/feed", "endpoints"),
    ("program/host", "endpoints"),
    ("program/launch", "endpoints"),
    ("program/notes", "endpoints"),
    ("program/pool", "endpoints"),
    ("program/pool/hand_over", "endpoints"),
    ("program/pool/location", "endpoints"),
    ("program/pool/program", "endpoints"),
    ("program/remainder", "endpoints"),
    ("program/stderr", "endpoints"),
    ("program/stdin", "endpoints"),
    ("program/unread", "endpoints"),
    ("random", "core"),
    ("recording", "engine"),
    ("recording/lane", "engine"),
    ("refusal", "engine"),
    ("refused", "shm"),
    ("request", "request"),
    ("response", "request"),
    ("response_body", "request"),
    ("scope", "request"),
    ("session", "engine"),
    ("session/context", "request"),
    ("session/linger", "engine"),
    ("shared", "endpoints"),
    ("shared/endpoint", "endpoints"),
    ("shared/host", "endpoints"),
    ("shared/parameters", "endpoints"),
    ("shared/process", "endpoints"),
    ("shared/publication", "endpoints"),
    ("shared/served", "endpoints"),
    ("shared/timers", "endpoints"),
    ("status", "core"),
    ("status_page", "http"),
    ("tcp", "endpoints"),
    ("tcp/address", "request"),
    ("tcp/allow", "request"),
    ("tcp/connect", "endpoints"),
    ("tcp/linger", "endpoints"),
    ("tcp/peer", "endpoints"),
    ("tcp/resolve", "endpoints"),
    ("tcp/socket", "core"),
    ("tcp/tls", "request"),
    ("tcp/tokens", "endpoints"),
    ("template", "request"),
    ("timer", "core"),
    ("tls", "core"),
    ("upgrade", "http"),
    ("uptake", "core"),
    ("user", "core"),
    ("variables", "root"),
    ("worker", "root"),
    ("worker/exit_watcher", "core"),
    ("worker/programs", "engine"),
    ("worker/spawners", "engine"),
];

/// Arrows that go up all the same, each with the reason. None may be added without one, and what is mended is taken off.
const KNOWN: &[(&str, &str, &str)] = &[];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/nginx")
}

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

/// The sources by their names, without `src/nginx/mod.rs`, which has nothing but the list of them.
fn files() -> BTreeMap<String, String> {
    let mut paths = Vec::new();
    sources(&root(), &mut paths);
    let named = paths.into_iter().map(|path| {
        let name = path.strip_prefix(root()).unwrap().with_extension("").display().to_string();
        (name.strip_suffix("/mod").unwrap_or(&name).to_owned(), fs::read_to_string(path).unwrap())
    });
    named.filter(|(name, _)| name != "mod").collect()
}

/// The paths of a `use`, its groups taken apart.
fn expand(tree: &str, paths: &mut Vec<String>) {
    let Some((prefix, group)) = tree.split_once('{') else {
        paths.push(tree.split_whitespace().next().unwrap_or_default().to_owned());
        return;
    };
    let group = &group[..group.rfind('}').unwrap()];
    let (mut depth, mut from) = (0, 0);
    for (at, letter) in group.char_indices().chain([(group.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = group[from..at].trim();
                if !part.is_empty() {
                    expand(&format!("{}{part}", prefix.trim()), paths);
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// The paths that a source names: those of its `use`, and those that begin with `crate` or `super` elsewhere.
fn paths(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap();
    let code: Vec<&str> = source.lines().map(|line| line.split("//").next().unwrap().trim()).collect();
    let mut code = code.join("\n");
    let mut paths = Vec::new();
    for begin in ["use ", "pub use ", "pub(super) use ", "pub(crate) use "] {
        while let Some(at) = format!("\n{code}").find(&format!("\n{begin}")) {
            let end = at + code[at..].find(';').unwrap();
            expand(&code[at + begin.len()..end].replace('\n', " "), &mut paths);
            code.replace_range(at..=end, "");
        }
    }
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    let others = code.split(|letter| !is_part(letter));
    paths.extend(others.filter(|word| word.starts_with("crate::") || word.starts_with("super::")).map(str::to_owned));
    paths
}

/// The file that a path in the file `from` leads to, if it is one of `src/nginx`: of re-exports the one that has them.
fn target<'f>(from: &str, path: &str, files: &'f BTreeMap<String, String>) -> Option<&'f str> {
    let mut parts: Vec<&str> = path.split("::").filter(|part| !part.is_empty()).collect();
    let mut place: Vec<&str> = from.split('/').collect();
    match *parts.first()? {
        "crate" if parts.get(1) == Some(&"nginx") => {
            place.clear();
            parts.drain(..2);
        }
        "super" => {
            while parts.first() == Some(&"super") {
                place.pop();
                parts.remove(0);
            }
        }
        "self" => {
            parts.remove(0);
        }
        first if files.contains_key(&format!("{from}/{first}")) => {}
        _ => return None,
    }
    place.extend(parts);
    while !place.is_empty() {
        if let Some((name, _)) = files.get_key_value(&place.join("/")) {
            return Some(name);
        }
        place.pop();
    }
    None
}

/// The place of a file's layer among the layers, if it has one.
fn layer(file: &str) -> Option<usize> {
    let (_, layer) = FILES.iter().find(|(name, _)| *name == file)?;
    LAYERS.iter().position(|(name, _)| name == layer)
}

/// The files of `src/nginx` that a file uses.
fn uses<'f>(from: &str, source: &str, files: &'f BTreeMap<String, String>) -> BTreeSet<&'f str> {
    paths(source).iter().filter_map(|path| target(from, path, files)).filter(|to| *to != from).collect()
}

#[test]
fn every_file_has_a_layer() {
    let files = files();
    let layers: Vec<String> = LAYERS.iter().map(|(name, what)| format!("  {name}: {what}")).collect();
    for file in files.keys() {
        assert!(
            FILES.iter().any(|(name, _)| name == file),
            "src/nginx/{file}.rs is in no layer. Decide which of these it belongs into and add it to FILES; it may \
             use what is in its own layer and in those that come before it in this list, the lowest first:\n{}",
            layers.join("\n")
        );
    }
    for (file, layer) in FILES {
        assert!(files.contains_key(*file), "there is no src/nginx/{file}.rs any more: take it off FILES");
        assert!(LAYERS.iter().any(|(name, _)| name == layer), "there is no layer {layer}");
    }
    assert!(FILES.is_sorted(), "FILES is in the order of the alphabet");
}

#[test]
fn arrows_go_down() {
    let files = files();
    let mut wrong = Vec::new();
    for (from, source) in &files {
        for to in uses(from, source, &files) {
            // Another test tells of a file that is in no layer.
            let (Some(low), Some(high)) = (layer(from), layer(to)) else { continue };
            if high > low && !KNOWN.iter().any(|(one, other, _)| one == from && *other == to) {
                let ((low, what), (high, _)) = (LAYERS[low], LAYERS[high]);
                wrong.push(format!(
                    "{from} ({low}) uses {to} ({high}). What {from} needs of it and does not name an endpoint, a location or \
                     the module belongs into {low} or below ({low} is {what}); else {high} hands it down as an argument or a \
                     function; else this part of {from} belongs into {high}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that go up:\n{}", wrong.join("\n"));
}

#[test]
fn what_is_mended_is_not_allowed_any_more() {
    let files = files();
    for (from, to, why) in KNOWN {
        assert!(why.ends_with('.'), "{from} -> {to} needs a reason");
        let is_there = files.get(*from).is_some_and(|source| uses(from, source, &files).contains(to));
        assert!(is_there && layer(to) > layer(from), "{from} does not reach up to {to} any more: take it off KNOWN");
    }
}

#[test]
fn the_layers_are_described() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md")).unwrap();
    let described: Vec<&str> = text
        .split("## The layers of src/nginx")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .skip_while(|name| *name != "root")
        .collect();
    let layers: Vec<&str> = LAYERS.iter().rev().map(|(name, _)| *name).collect();
    assert_eq!(described, layers);
}

#[test]
fn imports_are_read_as_the_compiler_does() {
    let files: BTreeMap<String, String> =
        ["a", "a/b", "a/b/c", "d"].map(|name| (name.to_owned(), String::new())).into();
    let source = "\
        //! use super::not_this;\n\
        use super::{d, e::{F, G}};\n\
        pub use c::{self as other, H};\n\
        use crate::nginx::{\n    a::{b, I},\n};\n\
        use crate::channel::store;\n\
        fn f() { super::super::d::run(); crate::nginx::a::J }\n\
        #[cfg(test)]\nmod tests { use super::*; }\n";
    assert_eq!(uses("a/b", source, &files), BTreeSet::from(["a", "a/b/c", "d"]));
    assert_eq!(uses("d", "use super::a::b::{c::K, L};", &files), BTreeSet::from(["a/b", "a/b/c"]));
}
