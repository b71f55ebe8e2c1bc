// SPDX-License-Identifier: Apache-2.0

//! The table of directives and how each reads its arguments.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::rc::Rc;

use super::cgi;
use super::channel;
use super::choices::{
    CHANNEL_LAGS, CHANNEL_LONGPOLLS, CHANNEL_TELL_IDS, ChannelMode, EXEC_FORMATS, EXEC_PTY_SIZES, EXEC_REQUESTS,
    EXEC_STDERRS, PROXY_PROTOCOLS, STATUS_FORMS, TCP_ACCEPTS, TCP_FORMATS,
};
use super::endpoint::{EndpointSettings, Shared};
use super::settings::{EnvEntry, ExecLimit, OriginRule, Settings};
use super::{Compiler, Refused, Template, message_template, names, recording, redis, refusals, tcp, value, words};
use crate::channel::store::MAX_KEY_PART;
use crate::exec::environment::Entry;
use crate::exec::notes::{self, Limit};
use crate::exec::spawner::{Daemons, Ladder, Resource};
use crate::status::StatusForm;
use crate::tcp::allow::{self, Rule};
use crate::tcp::tokens::Tokens;
use crate::ws::deflate::{Context, MAX_WINDOW, MIN_WINDOW};
use crate::ws::handshake::protocol;
use crate::ws::origin;

/// Where a directive may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `http`.
    Http,
    /// `location` and `if in location`.
    Location,
    /// `http`, `server`, `location`, and `if in location`.
    Anywhere,
}

/// How many arguments a directive takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arguments {
    /// The directive takes no argument.
    None,
    /// Exactly this many.
    Exactly(u8),
    /// None or one.
    AtMostOne,
    /// One or two.
    OneOrTwo,
    /// One to three.
    OneToThree,
    /// Two to four.
    TwoToFour,
    /// One or more.
    Some,
}

/// Programs of one location that a worker may have waiting for clients.
const MOST_AHEAD: u64 = 1024;

type Read<C> = fn(&mut Settings<C>, &mut C, &[&[u8]]) -> Result<(), Refused>;

/// One row of the table.
pub struct Directive<C: Compiler + 'static> {
    /// Its name in the configuration, ended by the NUL that nginx compares as well.
    pub name: &'static CStr,
    /// Where the directive may stand.
    pub place: Place,
    /// How many arguments it takes.
    pub arguments: Arguments,
    /// Reads the arguments (the name is not among them).
    pub read: Read<C>,
}

/// The table, for one compiler of templates.
pub struct Table<C>(PhantomData<C>);

impl<C: Compiler + 'static> Table<C> {
    /// Every directive of the module that is read into [`Settings`].
    pub const ROWS: &'static [Directive<C>] = &[
        row(c"websocket_exec", Place::Location, Arguments::Some, exec),
        row(c"websocket_exec_dir", Place::Location, Arguments::Exactly(1), |to, compiler, from| {
            let directory = cgi::directory_of_programs(compiler, from[0])?;
            connect(to, EndpointSettings::ExecDir(directory))
        }),
        row(c"websocket_cgi", Place::Location, Arguments::Some, cgi::program),
        row(c"websocket_cgi_dir", Place::Location, Arguments::Exactly(1), cgi::directory),
        row(c"websocket_cgi_timeout", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.cgi_timeout, value::time(from[0]))
        }),
        row(c"websocket_channel", Place::Location, Arguments::Some, channel::channel),
        row(c"websocket_channel_zone", Place::Http, Arguments::Exactly(1), channel::zone),
        row(c"websocket_channel_group", Place::Anywhere, Arguments::Exactly(1), |to, compiler, from| {
            words::no_switch(from[0], "the name of a group, or \"\" for none")?;
            once(&mut to.channel_group, compiler.compile(from[0]).map(Some))
        }),
        row(c"websocket_channel_group_limits", Place::Anywhere, Arguments::Some, channel::group_limits),
        row(c"websocket_channel_group_info", Place::Location, Arguments::None, group_info),
        row(c"websocket_channel_presence", Place::Anywhere, Arguments::Exactly(1), |to, compiler, from| {
            words::no_switch(from[0], "who the subscriber is, or \"\" for nobody")?;
            once(&mut to.channel_presence, compiler.compile(from[0]).map(Some))
        }),
        row(c"websocket_channel_history", Place::Anywhere, Arguments::Some, channel::history),
        row(c"websocket_channel_start", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_start, channel::start(from[0]))
        }),
        row(c"websocket_channel_transports", Place::Anywhere, Arguments::Some, channel::transports),
        row(c"websocket_channel_separator", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            words::no_switch(from[0], "what follows each message, or \"\" for nothing")?;
            once(&mut to.channel_separator, Ok(Rc::from(from[0])))
        }),
        row(c"websocket_channel_lag", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_lag, value::choice(from[0], CHANNEL_LAGS))
        }),
        row(c"websocket_channel_rate", Place::Anywhere, Arguments::OneOrTwo, channel::rate),
        row(c"websocket_channel_message_template", Place::Anywhere, Arguments::OneOrTwo, message_template::template),
        row(c"websocket_channel_eventsource_event", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_eventsource_event, channel::event_name(from[0]))
        }),
        row(c"websocket_channel_eventsource_ping_event", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_eventsource_ping_event, channel::event_name(from[0]))
        }),
        row(c"websocket_channel_eventsource_ping_data", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_eventsource_ping_data, channel::line(from[0]).map(Some))
        }),
        row(c"websocket_channel_eventsource_ping_comment", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_eventsource_ping_comment, channel::line(from[0]))
        }),
        row(c"websocket_channel_longpoll", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_longpoll, value::choice(from[0], CHANNEL_LONGPOLLS))
        }),
        row(c"websocket_client_heartbeat", Place::Anywhere, Arguments::OneOrTwo, channel::heartbeat),
        row(c"websocket_channel_split", Place::Anywhere, Arguments::Exactly(1), channel::split),
        row(c"websocket_channel_tell_id", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_tell_id, value::choice(from[0], CHANNEL_TELL_IDS))
        }),
        row(c"websocket_channel_create", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_create, value::flag(from[0]))
        }),
        row(c"websocket_channel_delete", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_delete, value::flag(from[0]).map(Some))
        }),
        row(c"websocket_channel_max_subscribers", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_max_subscribers, value::number(from[0], 0, u64::from(u32::MAX)))
        }),
        row(c"websocket_channel_names", Place::Anywhere, Arguments::Some, names::names),
        row(c"websocket_channel_max_subscriptions", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_max_subscriptions, value::number(from[0], 1, names::MOST_SUBSCRIPTIONS))
        }),
        row(c"websocket_channel_max_id_length", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_max_id_length, value::number(from[0], 1, MAX_KEY_PART as u64))
        }),
        row(c"websocket_channel_publish_request", Place::Anywhere, Arguments::Exactly(1), |to, compiler, from| {
            once(&mut to.channel_publish_request, channel::hook(compiler, from[0]))
        }),
        row(c"websocket_channel_join_request", Place::Anywhere, Arguments::Exactly(1), |to, compiler, from| {
            once(&mut to.channel_join_request, channel::hook(compiler, from[0]))
        }),
        row(c"websocket_channel_leave_request", Place::Anywhere, Arguments::Exactly(1), |to, compiler, from| {
            once(&mut to.channel_leave_request, channel::hook(compiler, from[0]))
        }),
        row(c"websocket_channel_events", Place::Anywhere, Arguments::Some, |to, compiler, from| {
            once(&mut to.channel_events, channel::events(compiler, from))
        }),
        row(c"websocket_channel_redis", Place::Anywhere, Arguments::Some, redis::redis),
        row(c"websocket_channel_redis_password_file", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_redis_password_file, redis::file(from[0]))
        }),
        row(c"websocket_channel_redis_sentinel_user", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_redis_sentinel_user, redis::user(from[0]))
        }),
        row(
            c"websocket_channel_redis_sentinel_password_file",
            Place::Anywhere,
            Arguments::Exactly(1),
            |to, _, from| once(&mut to.channel_redis_sentinel_password_file, redis::file(from[0])),
        ),
        row(c"websocket_channel_redis_prefix", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_redis_prefix, redis::prefix(from[0]))
        }),
        row(c"websocket_channel_redis_connect_timeout", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_redis_connect_timeout, redis::timeout(from[0]))
        }),
        row(c"websocket_channel_redis_timeout", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_redis_timeout, redis::timeout(from[0]))
        }),
        row(c"websocket_channel_redis_max_pending", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_redis_max_pending, value::number(from[0], 1, 1 << 20))
        }),
        row(c"websocket_channel_redis_replicas", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_redis_replicas, value::number(from[0], 0, 1 << 10))
        }),
        row(c"websocket_channel_redis_ssl_verify", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_redis_ssl_verify, value::flag(from[0]))
        }),
        row(c"websocket_channel_redis_ssl_name", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_redis_ssl_name, redis::tls_name(from[0]))
        }),
        row(
            c"websocket_channel_redis_ssl_trusted_certificate",
            Place::Anywhere,
            Arguments::Exactly(1),
            |to, _, from| once(&mut to.channel_redis_ssl_trusted_certificate, tcp::file(from[0])),
        ),
        row(c"websocket_channel_redis_ssl_certificate", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_redis_ssl_certificate, tcp::file(from[0]))
        }),
        row(c"websocket_channel_redis_ssl_certificate_key", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.channel_redis_ssl_certificate_key, tcp::file(from[0]))
        }),
        row(c"websocket_status", Place::Location, Arguments::AtMostOne, status),
        row(c"websocket_origin", Place::Anywhere, Arguments::Some, read_origin),
        row(c"websocket_refuse_with_close", Place::Anywhere, Arguments::Some, |to, _, from| {
            once(&mut to.refuse_with_close, refusals::refusals(from))
        }),
        row(c"websocket_protocols", Place::Anywhere, Arguments::Some, protocols),
        row(c"websocket_max_message_size", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.message_limit, value::size(from[0]))
        }),
        row(c"websocket_max_frame_size", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.max_frame_size, value::size(from[0]))
        }),
        row(c"websocket_close_timeout", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.close_timeout, value::time(from[0]))
        }),
        row(c"websocket_fragment_size", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.fragment_size, value::size(from[0]))
        }),
        row(c"websocket_ping_interval", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.ping_interval, value::time(from[0]))
        }),
        row(c"websocket_ping_timeout", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.ping_timeout, value::time(from[0]))
        }),
        row(c"websocket_idle_timeout", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.idle_timeout, value::time(from[0]))
        }),
        row(c"websocket_send_timeout", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.send_timeout, value::time(from[0]))
        }),
        row(c"websocket_send_buffer", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.send_buffer, value::size(from[0]).and_then(|size| at_least(from[0], size, 1)))
        }),
        row(c"websocket_drain", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.drain, value::time(from[0]))
        }),
        row(c"websocket_deflate", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.deflate, value::flag(from[0]))
        }),
        row(c"websocket_deflate_level", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.deflate_level, value::number(from[0], 1, 9))
        }),
        row(c"websocket_deflate_window", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.deflate_window, value::number(from[0], MIN_WINDOW.into(), MAX_WINDOW.into()))
        }),
        row(c"websocket_deflate_min_size", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.deflate_min_size, value::size(from[0]))
        }),
        row(c"websocket_deflate_context", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            let words = [("on", Context::History), ("off", Context::Off), ("dedicated", Context::Dedicated)];
            once(&mut to.deflate_context, value::choice(from[0], &words))
        }),
        row(c"websocket_console", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.console, value::flag(from[0]))
        }),
        row(c"websocket_record", Place::Anywhere, Arguments::OneToThree, recording::record),
        row(c"websocket_record_queue", Place::Http, Arguments::Exactly(1), recording::queue),
        row(c"websocket_exec_format", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.exec_format, value::choice(from[0], EXEC_FORMATS))
        }),
        row(c"websocket_exec_env", Place::Anywhere, Arguments::Some, exec_env),
        row(c"websocket_exec_cwd", Place::Anywhere, Arguments::Exactly(1), |to, compiler, from| {
            if from[0].is_empty() {
                return Err(Refused::value(from[0], "a directory"));
            }
            let directory = compiler.compile(from[0])?;
            if directory.constant().is_some_and(|path| !path.starts_with(b"/")) {
                return Err(Refused::value(from[0], "the absolute path of a directory"));
            }
            once(&mut to.exec_cwd, Ok(Some(directory)))
        }),
        row(c"websocket_exec_max", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.exec_max, value::number(from[0], 0, u64::from(u32::MAX)))
        }),
        row(c"websocket_exec_stderr", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.exec_stderr, value::choice(from[0], EXEC_STDERRS))
        }),
        row(c"websocket_exec_notes", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.exec_notes, value::flag(from[0]))
        }),
        row(c"websocket_exec_notes_limit", Place::Anywhere, Arguments::OneOrTwo, |to, _, from| {
            once(&mut to.exec_notes_limit, notes_limit(from))
        }),
        row(c"websocket_exec_pool", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.exec_pool, value::number(from[0], 0, MOST_AHEAD))
        }),
        row(c"websocket_exec_pty", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.exec_pty, value::flag(from[0]))
        }),
        row(c"websocket_exec_pty_size", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.exec_pty_size, value::choice(from[0], EXEC_PTY_SIZES))
        }),
        row(c"websocket_exec_remote_host", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.exec_remote_host, value::flag(from[0]))
        }),
        row(c"websocket_exec_send_timeout", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.exec_send_timeout, value::time(from[0]))
        }),
        row(c"websocket_exec_linger", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.exec_linger, value::time(from[0]))
        }),
        row(c"websocket_exec_request", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.exec_request, value::choice(from[0], EXEC_REQUESTS))
        }),
        row(c"websocket_exec_limit", Place::Anywhere, Arguments::Some, exec_limit),
        row(c"websocket_exec_stop", Place::Anywhere, Arguments::TwoToFour, exec_stop),
        row(c"websocket_exec_start_timeout", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.exec_start_timeout, value::time(from[0]))
        }),
        row(c"websocket_exec_user", Place::Anywhere, Arguments::OneOrTwo, |to, compiler, from| {
            if let Some(empty) = from.iter().find(|name| name.is_empty()) {
                return Err(Refused::value(empty, "the name of a user, and the name of a group"));
            }
            words::no_switch(from[0], "the name of a user; without the directive it is that of the workers")?;
            once(&mut to.exec_user, compiler.user(from[0], from.get(1).copied()).map(Some))
        }),
        row(c"websocket_tcp", Place::Location, Arguments::Exactly(1), tcp),
        row(c"websocket_tcp_connect_timeout", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.tcp_connect_timeout, value::time(from[0]))
        }),
        row(c"websocket_tcp_send_timeout", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.tcp_send_timeout, value::time(from[0]))
        }),
        row(c"websocket_tcp_buffer_size", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.tcp_buffer_size, value::size(from[0]).and_then(|size| between(from[0], size, 1, 1 << 30)))
        }),
        row(c"websocket_tcp_format", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.tcp_format, value::choice(from[0], TCP_FORMATS))
        }),
        row(c"websocket_tcp_upload_rate", Place::Anywhere, Arguments::Exactly(1), |to, compiler, from| {
            once(&mut to.tcp_upload_rate, tcp::rate(compiler, from[0]))
        }),
        row(c"websocket_tcp_download_rate", Place::Anywhere, Arguments::Exactly(1), |to, compiler, from| {
            once(&mut to.tcp_download_rate, tcp::rate(compiler, from[0]))
        }),
        row(c"websocket_tcp_proxy_protocol", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.tcp_proxy_protocol, value::choice(from[0], PROXY_PROTOCOLS))
        }),
        row(c"websocket_tcp_next_upstream_tries", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.tcp_next_upstream_tries, value::number(from[0], 0, u64::from(u32::MAX)))
        }),
        row(c"websocket_tcp_next_upstream_timeout", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.tcp_next_upstream_timeout, value::time(from[0]))
        }),
        row(c"websocket_tcp_bind", Place::Anywhere, Arguments::Exactly(1), |to, compiler, from| {
            once(&mut to.tcp_bind, tcp::bind(compiler, from[0]))
        }),
        row(c"websocket_tcp_accept", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.tcp_accept, value::choice(from[0], TCP_ACCEPTS))
        }),
        row(c"websocket_tcp_allow", Place::Anywhere, Arguments::Some, |to, _, from| {
            once(&mut to.tcp_allow, allowed(from))
        }),
        row(c"websocket_tcp_tokens", Place::Anywhere, Arguments::Exactly(1), |to, compiler, from| {
            words::tokens(from[0])?;
            once(&mut to.tcp_tokens, compiler.path(from[0]).map(|path| Some(Rc::new(Tokens::new(&path)))))
        }),
        row(c"websocket_tcp_ssl", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.tcp_ssl, value::flag(from[0]))
        }),
        row(c"websocket_tcp_ssl_name", Place::Anywhere, Arguments::Exactly(1), |to, compiler, from| {
            if from[0].is_empty() {
                return Err(Refused::value(from[0], "a name"));
            }
            words::no_switch(from[0], "a name; without the directive it is that of the address")?;
            once(&mut to.tcp_ssl_name, compiler.compile(from[0]).map(Some))
        }),
        row(c"websocket_tcp_ssl_verify", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.tcp_ssl_verify, value::flag(from[0]))
        }),
        row(c"websocket_tcp_ssl_trusted_certificate", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.tcp_ssl_trusted_certificate, tcp::file(from[0]))
        }),
        row(c"websocket_tcp_ssl_certificate", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.tcp_ssl_certificate, tcp::file(from[0]))
        }),
        row(c"websocket_tcp_ssl_certificate_key", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.tcp_ssl_certificate_key, tcp::file(from[0]))
        }),
        row(c"websocket_tcp_ssl_crl", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.tcp_ssl_crl, tcp::file(from[0]))
        }),
        row(c"websocket_tcp_ssl_protocols", Place::Anywhere, Arguments::Some, |to, _, from| {
            once(&mut to.tcp_ssl_protocols, tcp::tls_versions(from))
        }),
        row(c"websocket_tcp_ssl_ciphers", Place::Anywhere, Arguments::Exactly(1), |to, _, from| {
            once(&mut to.tcp_ssl_ciphers, tcp::ciphers(from[0]))
        }),
    ];
}

const fn row<C: Compiler>(name: &'static CStr, place: Place, arguments: Arguments, read: Read<C>) -> Directive<C> {
    Directive { name, place, arguments, read }
}

/// Stores a value that may be given once a level.
pub(super) fn once<V>(field: &mut Option<V>, value: Result<V, Refused>) -> Result<(), Refused> {
    if field.is_some() {
        return Err(Refused::Duplicate);
    }
    *field = Some(value?);
    Ok(())
}

pub(super) fn at_least(text: &[u8], size: u64, least: u64) -> Result<u64, Refused> {
    if size < least { Err(Refused::value(text, format!("a size from {least}"))) } else { Ok(size) }
}

pub(super) fn between(text: &[u8], size: u64, least: u64, most: u64) -> Result<u64, Refused> {
    if (least..=most).contains(&size) {
        Ok(size)
    } else {
        Err(Refused::value(text, format!("a size from {least} to {most}")))
    }
}

/// How many notes, and how many octets of all together.
fn notes_limit(from: &[&[u8]]) -> Result<Limit, Refused> {
    let number = value::number(from[0], 1, notes::MAX_NUMBER as u64)? as usize;
    let size = match from.get(1) {
        Some(text) => value::size(text).and_then(|size| between(text, size, 1, notes::MAX_SIZE as u64))? as usize,
        None => Limit::DEFAULT.size,
    };
    Ok(Limit { number, size })
}

/// Makes the location's endpoint, unless it has one.
pub(super) fn connect<C: Compiler>(settings: &mut Settings<C>, endpoint: EndpointSettings<C>) -> Result<(), Refused> {
    if let (EndpointSettings::Channel(_), Some(cgi)) = (&endpoint, &settings.cgi) {
        // A channel answers requests that are no upgrade itself.
        return Err(Refused::Conflict(cgi.directive()));
    }
    if let Some(EndpointSettings::Exec(_) | EndpointSettings::Channel(_) | EndpointSettings::Shared(_)) =
        &settings.endpoint
    {
        return share(settings, endpoint);
    }
    alone_beside_cgi(settings, endpoint.directive())?;
    settings.endpoint = Some(endpoint);
    Ok(())
}

/// Whether no directive of the location answers its requests already. `name` is one that is about to.
fn alone<C: Compiler>(settings: &Settings<C>, name: &'static str) -> Result<(), Refused> {
    differs(settings.content(), name)
}

/// The same for one that leaves those that ask for no WebSocket to a CGI program.
fn alone_beside_cgi<C: Compiler>(settings: &Settings<C>, name: &'static str) -> Result<(), Refused> {
    differs(settings.content_beside_cgi(), name)
}

fn differs(present: Option<&'static str>, name: &'static str) -> Result<(), Refused> {
    let Some(present) = present else { return Ok(()) };
    Err(if present == name { Refused::Duplicate } else { Refused::Conflict(present) })
}

/// A location that has a program or a channel gets the other one as well: its clients share the program.
fn share<C: Compiler>(settings: &mut Settings<C>, endpoint: EndpointSettings<C>) -> Result<(), Refused> {
    let (program, channel) = match (&settings.endpoint, endpoint) {
        (Some(EndpointSettings::Exec(program)), EndpointSettings::Channel(channel)) => (Rc::clone(program), channel),
        (Some(EndpointSettings::Channel(channel)), EndpointSettings::Exec(program)) => (program, channel.clone()),
        (Some(EndpointSettings::Shared(_)), EndpointSettings::Exec(_) | EndpointSettings::Channel(_)) => {
            return Err(Refused::Duplicate);
        }
        (_, other) => return alone_beside_cgi(settings, other.directive()),
    };
    if channel.ids.len() != 1 {
        return Err(Refused::Usage("clients that share a program have one channel, not several".to_owned()));
    }
    if channel.mode != ChannelMode::Sub {
        let reason = "beside \"websocket_exec\" clients send to the program, and cannot publish (mode=sub)";
        return Err(Refused::Usage(reason.to_owned()));
    }
    settings.endpoint = Some(EndpointSettings::Shared(Shared { program, channel }));
    Ok(())
}

fn status<C: Compiler>(settings: &mut Settings<C>, _: &mut C, arguments: &[&[u8]]) -> Result<(), Refused> {
    alone(settings, "websocket_status")?;
    let form = arguments.first().map_or(Ok(StatusForm::Json), |form| value::choice(form, STATUS_FORMS));
    once(&mut settings.status, form)
}

fn group_info<C: Compiler>(settings: &mut Settings<C>, _: &mut C, _: &[&[u8]]) -> Result<(), Refused> {
    alone(settings, "websocket_channel_group_info")?;
    settings.group_info = true;
    Ok(())
}

pub(super) fn compile_all<C: Compiler>(compiler: &mut C, arguments: &[&[u8]]) -> Result<Rc<[C::Template]>, Refused> {
    arguments.iter().map(|argument| compiler.compile(argument)).collect()
}

/// What a program is called by.
pub const PROGRAM_NAME: &str = "an absolute path, or a name without a slash, which is looked for in PATH";

/// Whether a value is [`PROGRAM_NAME`]. There is no directory that another path could be relative to.
pub fn names_program(value: &[u8]) -> bool {
    value.starts_with(b"/") || !(value.is_empty() || value.contains(&b'/'))
}

fn exec<C: Compiler>(settings: &mut Settings<C>, compiler: &mut C, arguments: &[&[u8]]) -> Result<(), Refused> {
    let program = cgi::program_words(compiler, arguments)?;
    connect(settings, EndpointSettings::Exec(program))
}

fn tcp<C: Compiler>(settings: &mut Settings<C>, compiler: &mut C, arguments: &[&[u8]]) -> Result<(), Refused> {
    if arguments[0].is_empty() {
        return Err(Refused::value(arguments[0], "an address"));
    }
    words::address(arguments[0])?;
    // nginx keeps every address that it was shown.
    alone_beside_cgi(settings, "websocket_tcp")?;
    let service = compiler.service(arguments[0])?;
    connect(settings, EndpointSettings::Tcp(service))
}

fn allowed(arguments: &[&[u8]]) -> Result<Rc<[Rule]>, Refused> {
    if arguments.len() > 1 && arguments.contains(&&b"any"[..]) {
        return Err(Refused::Usage("\"any\" stands alone".to_owned()));
    }
    let rule = |argument: &&[u8]| Rule::parse(argument).ok_or_else(|| Refused::value(argument, allow::EXPECTED));
    arguments.iter().map(rule).collect()
}

fn read_origin<C: Compiler>(settings: &mut Settings<C>, compiler: &mut C, arguments: &[&[u8]]) -> Result<(), Refused> {
    let mut rules = Vec::with_capacity(arguments.len());
    for &argument in arguments {
        rules.push(match argument {
            b"same" => OriginRule::Same,
            b"any" if arguments.len() > 1 => return Err(Refused::Usage("\"any\" stands alone".to_owned())),
            b"any" => OriginRule::Any,
            [b'~', b'*', ..] => {
                let reason = "a regular expression follows one \"~\", and matches case-insensitively";
                return Err(words::wrong(argument, reason));
            }
            // A regular expression is no template: its "$" is an anchor.
            [b'~', pattern @ ..] if !pattern.is_empty() => OriginRule::Regex(compiler.regex(pattern, true)?),
            _ if argument.contains(&b'$') => {
                words::origin_template(argument)?;
                OriginRule::Template(compiler.compile(argument)?)
            }
            _ => origin::Pattern::parse(argument)
                .map(OriginRule::Pattern)
                .map_err(|error| Refused::value(argument, error.to_string()))?,
        });
    }
    once(&mut settings.origin, Ok(rules.into()))
}

fn protocols<C: Compiler>(settings: &mut Settings<C>, _: &mut C, arguments: &[&[u8]]) -> Result<(), Refused> {
    let mut names: Vec<String> = Vec::with_capacity(arguments.len());
    for &argument in arguments {
        let none = "names of subprotocols; without the directive none is selected";
        words::no_switch(argument, none)?;
        if [&b"any"[..], b"all", b"*"].contains(&argument) {
            return Err(Refused::value(argument, none));
        }
        let name = str::from_utf8(argument).ok().filter(|name| protocol::is_valid(name));
        let name = name.ok_or_else(|| Refused::value(argument, "names of subprotocols (tokens)"))?;
        if names.iter().any(|other| other == name) {
            return Err(Refused::value(argument, "each subprotocol once"));
        }
        names.push(name.to_owned());
    }
    once(&mut settings.protocols, Ok(names.into()))
}

fn exec_env<C: Compiler>(settings: &mut Settings<C>, compiler: &mut C, arguments: &[&[u8]]) -> Result<(), Refused> {
    // Several lines at one level add up, as with nginx's own "env".
    let mut entries: Vec<EnvEntry<C::Template>> =
        settings.exec_env.take().map(|present| present.to_vec()).unwrap_or_default();
    for &argument in arguments {
        words::no_switch(argument, "name=value, or the name of a variable of nginx's own")?;
        entries.push(match Entry::parse(argument).map_err(|error| Refused::value(argument, error.to_string()))? {
            Entry::Set { name, value } => EnvEntry::Set(name.to_vec(), compiler.compile(value)?),
            Entry::Pass { name } => EnvEntry::Pass(name.to_vec()),
        });
    }
    settings.exec_env = Some(entries.into());
    Ok(())
}

fn exec_limit<C: Compiler>(settings: &mut Settings<C>, compiler: &mut C, arguments: &[&[u8]]) -> Result<(), Refused> {
    let mut limits: Vec<ExecLimit<C::Template>> = Vec::with_capacity(arguments.len());
    for &argument in arguments {
        let refused = || {
            let names: Vec<&str> = Resource::NAMES.iter().map(|(name, _)| *name).collect();
            Refused::value(argument, format!("name=value with one of the names {}", names.join(", ")))
        };
        let place = argument.iter().position(|&octet| octet == b'=').ok_or_else(refused)?;
        let (name, value) = (&argument[..place], &argument[place + 1..]);
        let (_, resource) = Resource::NAMES.iter().find(|(known, _)| known.as_bytes() == name).ok_or_else(refused)?;
        if limits.iter().any(|limit| limit.resource == *resource) {
            return Err(Refused::value(argument, "each resource once"));
        }
        let limit = ExecLimit { resource: *resource, value: compiler.compile(value)? };
        if let Some(text) = limit.value.constant() {
            limit.limit(text).map_err(|error| Refused::value(argument, error.expected()))?;
        }
        limits.push(limit);
    }
    once(&mut settings.exec_limit, Ok(limits.into()))
}

fn exec_stop<C: Compiler>(settings: &mut Settings<C>, _: &mut C, arguments: &[&[u8]]) -> Result<(), Refused> {
    let milliseconds = |text| value::time(text).map(|time| u32::try_from(time).unwrap_or(u32::MAX));
    let [term, kill, options @ ..] = arguments else {
        return Err(Refused::Usage("the times of the two signals are missing".to_owned()));
    };
    let (term, end) = (milliseconds(term)?, milliseconds(kill)?);
    if end < term {
        return Err(Refused::value(kill, "a time not before that of SIGTERM"));
    }
    let mut ladder = Ladder { term_ms: term, kill_ms: end, ..Ladder::default() };
    let (mut signal, mut daemons) = (None, None);
    for &argument in options {
        let expected = || Refused::value(argument, "signal=NAME or daemons=stop|keep, each once");
        match (argument.strip_prefix(b"signal="), argument.strip_prefix(b"daemons=")) {
            (Some(name), _) if signal.is_none() => signal = Some(stop_signal(argument, name)?),
            (_, Some(b"stop")) if daemons.is_none() => daemons = Some(Daemons::Stop),
            (_, Some(b"keep")) if daemons.is_none() => daemons = Some(Daemons::Keep),
            _ => return Err(expected()),
        }
    }
    ladder.signal = signal.unwrap_or(ladder.signal);
    ladder.daemons = daemons.unwrap_or(ladder.daemons);
    once(&mut settings.exec_stop, Ok(ladder))
}

/// Signals that ask a program to end.
const STOP_SIGNALS: [(&str, i32); 6] = [
    ("TERM", libc::SIGTERM),
    ("INT", libc::SIGINT),
    ("HUP", libc::SIGHUP),
    ("QUIT", libc::SIGQUIT),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
];

fn stop_signal(argument: &[u8], name: &[u8]) -> Result<i32, Refused> {
    STOP_SIGNALS.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, signal)| *signal).ok_or_else(|| {
        let names: Vec<&str> = STOP_SIGNALS.iter().map(|(name, _)| *name).collect();
        Refused::value(argument, format!("signal= with one of the names {}", names.join(", ")))
    })
}
