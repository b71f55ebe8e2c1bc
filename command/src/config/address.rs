// SPDX-License-Identifier: Apache-2.0

//! Where the server listens, and what of that is told.

use std::os::unix::ffi::OsStrExt;

use super::{Surroundings, absolute};
use crate::options::Options;
use crate::quote::plain;

/// The `listen` directives of the server, or of the one that redirects from `port`.
pub fn listens(options: &Options, around: &Surroundings, port: Option<u16>) -> Vec<u8> {
    let mut lines = Vec::new();
    let tls = if options.tls && port.is_none() { " ssl" } else { "" };
    let mut listen = |address: &[u8]| {
        lines.extend(b"        listen  ");
        lines.extend(plain(address));
        lines.extend(tls.bytes());
        lines.extend(b";\n");
    };
    if port.is_none() {
        if let Some(socket) = &options.unix_socket {
            listen(&[b"unix:", absolute(around, socket).as_os_str().as_bytes()].concat());
        }
        if options.is_unix_only() {
            return lines;
        }
    }
    let port = port.unwrap_or_else(|| options.effective_port());
    for address in &options.addresses {
        listen(&[&bracketed(address.as_bytes()), format!(":{port}").as_bytes()].concat());
    }
    if options.addresses.is_empty() {
        listen(format!("{port}").as_bytes());
        if around.has_ipv6 {
            listen(format!("[::]:{port}").as_bytes());
        }
    }
    lines
}

/// An address of IPv6 in brackets, whether or not it was given in them.
fn bracketed(address: &[u8]) -> Vec<u8> {
    let is_bare_ipv6 = !address.starts_with(b"[") && address.iter().filter(|octet| **octet == b':').count() > 1;
    if is_bare_ipv6 { [b"[", address, b"]"].concat() } else { address.to_vec() }
}

/// The server that leads to the canonical port.
pub fn redirects(options: &Options, around: &Surroundings) -> Vec<u8> {
    if options.redirect_port == 0 || options.is_unix_only() {
        return Vec::new();
    }
    let scheme = if options.tls { "https" } else { "http" };
    let mut text = b"\n    server {\n".to_vec();
    text.extend(listens(options, around, Some(options.redirect_port)));
    text.extend(format!("        return  301 {scheme}://$host:{}/;\n    }}\n", options.effective_port()).bytes());
    text
}

/// The addresses to tell the person who has started it: of WebSockets, and of the page if there is one.
pub fn addresses(options: &Options) -> Vec<String> {
    let mut told = Vec::new();
    let mut tell = |place: &str, path: &str| {
        let s = if options.tls { "s" } else { "" };
        let is_page = options.console || options.static_dir.is_some() || options.cgi_dir.is_some();
        if is_page {
            told.push(format!("http{s}://{place}{path}"));
        }
        if !options.command.is_empty() || options.script_dir.is_some() {
            told.push(format!("ws{s}://{place}{path}"));
        }
    };
    if !options.is_unix_only() {
        let port = match (options.effective_port(), options.tls) {
            (80, false) | (443, true) => String::new(),
            (port, _) => format!(":{port}"),
        };
        if options.addresses.is_empty() {
            tell(&format!("localhost{port}"), "/");
        }
        for address in &options.addresses {
            tell(&format!("{}{port}", String::from_utf8_lossy(&bracketed(address.as_bytes()))), "/");
        }
    }
    if let Some(socket) = &options.unix_socket {
        told.push(format!("unix socket at {}", socket.display()));
    }
    told
}
