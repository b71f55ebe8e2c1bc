// SPDX-License-Identifier: Apache-2.0

//! Whether a service may be connected that the variables of an address name (`websocket_tcp_allow`): what is refused when the
//! configuration is read, and what before a connection is made.

use std::net::SocketAddr;

use super::address::{Address, Literal, Target, socket_address};
use crate::conf::{EndpointSettings, Settings};
use crate::nginx::ffi;
use crate::nginx::log::{self, Level, Octets};
use crate::nginx::request::Request;
use crate::nginx::template::NginxCompiler;
use crate::tcp::allow::{Rule, chosen_by_client};

/// Whether the configuration says where the address of a location may lead, if it has to. If not, that is logged.
pub fn is_said(cf: *mut ffi::ngx_conf_t, settings: &Settings<NginxCompiler>) -> bool {
    let Some(EndpointSettings::Tcp(Address::Template(address))) = &settings.endpoint else { return true };
    if settings.tcp_allow.is_some() {
        return true;
    }
    let Some(variable) = chosen_by_client(address.text()) else { return true };
    let (file, line) = address.written();
    let (value, variable, file) = (Octets(address.text()), Octets(variable), Octets(file));
    // SAFETY: cf is valid while the configuration is read, and so is its log.
    let log = unsafe { (*cf).log };
    log::write(
        log,
        Level::Emerg,
        format_args!(
            "\"{value}\" in \"websocket_tcp\" directive lets clients choose where nginx connects to, by \"${variable}\": make it a \
             variable of a \"map\", or say by \"websocket_tcp_allow\" which addresses are meant, in {file}:{line}"
        ),
    );
    false
}

/// What is known of a target before its name is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The service may be connected, whatever a name leads to.
    Allowed,
    /// The addresses that its name leads to have to be looked at.
    ByAddress,
    /// The service may not be connected; this was logged.
    Refused,
}

/// Looks at a target that variables have named.
pub fn judge(request: Request<'_>, target: &Target) -> Judgement {
    let settings = request.settings();
    let Some(rules) = &settings.tcp_allow else { return Judgement::Allowed };
    let any = |allows: &dyn Fn(&Rule) -> bool| rules.iter().any(allows);
    if any(&Rule::allows_all) {
        return Judgement::Allowed;
    }
    let judgement = match target {
        Target::Group(group) if group.is_block() => decided(any(&Rule::allows_upstreams)),
        Target::Group(group) => match literal(group.host(), group.port()) {
            Some(Literal::Path(path)) => decided(any(&|rule| rule.allows_path(path))),
            Some(Literal::Address(address)) => decided(any(&|rule| rule.allows_address(address))),
            // Its name was looked up when the configuration was read, since that has it somewhere.
            None => decided(any(&|rule| rule.allows_name(group.host(), group.port()))),
        },
        Target::Server(resolved) => match resolved.path_or_address() {
            Some(Literal::Path(path)) => decided(any(&|rule| rule.allows_path(path))),
            Some(Literal::Address(address)) => decided(any(&|rule| rule.allows_address(address))),
            None => Judgement::Refused,
        },
        Target::Name(resolved) => match any(&|rule| rule.allows_name(resolved.host(), resolved.port())) {
            true => Judgement::Allowed,
            false => Judgement::ByAddress,
        },
    };
    if judgement == Judgement::Refused {
        report(request);
    }
    judgement
}

fn decided(allowed: bool) -> Judgement {
    if allowed { Judgement::Allowed } else { Judgement::Refused }
}

/// The addresses of a name that may be connected on this port. That there is none was logged.
pub fn among(request: Request<'_>, addresses: &[ffi::ngx_resolver_addr_t], port: u16) -> Vec<ffi::ngx_resolver_addr_t> {
    let settings = request.settings();
    let rules = settings.tcp_allow.as_deref().unwrap_or_default();
    let is_allowed = |address: &&ffi::ngx_resolver_addr_t| {
        // nginx puts the port in only when it makes servers of the addresses.
        socket_address(address.sockaddr).is_some_and(|address| {
            let wanted = SocketAddr::new(address.ip(), port);
            rules.iter().any(|rule| rule.allows_address(wanted))
        })
    };
    let allowed: Vec<_> = addresses.iter().filter(is_allowed).copied().collect();
    if allowed.is_empty() {
        report(request);
    }
    allowed
}

/// The address is not named: it may be what the client sent as a secret.
fn report(request: Request<'_>) {
    request.report(Level::Error, format_args!("the address of the service is not allowed by \"websocket_tcp_allow\""));
}

/// What the host of a group is, if it is no name.
fn literal(host: &[u8], port: u16) -> Option<Literal<'_>> {
    if host.starts_with(b"/") {
        return Some(Literal::Path(host));
    }
    let text = std::str::from_utf8(host).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().map(|address| Literal::Address(SocketAddr::new(address, port)))
}
