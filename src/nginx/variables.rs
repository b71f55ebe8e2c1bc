// SPDX-License-Identifier: Apache-2.0

//! The `$websocket_…` variables.

use std::borrow::Cow;
use std::ptr;

use super::channel;
use super::ffi::*;
use super::guard::guard_status;
use super::request::{Request, bytes};
use super::session::context::Context;
use super::status::Status;
use super::tcp;
use super::timer::now;
use crate::exec::spawner::ExitStatus;
use crate::ws::connection::Side;

/// What a variable says of a session; nothing where it does not apply.
type Value = fn(&Context) -> Option<String>;

/// What a variable says in octets that need not be text.
type OctetsValue = fn(Request<'_>) -> Option<Vec<u8>>;

const VARIABLES: &[(&str, Value)] = &[
    ("websocket_endpoint", |context| context.endpoint.get().map(str::to_owned)),
    ("websocket_protocol", |context| context.protocol().map(str::to_owned)),
    ("websocket_messages_in", |context| counter(context, context.record.messages_in.get())),
    ("websocket_messages_out", |context| counter(context, context.record.messages_out.get())),
    ("websocket_bytes_in", |context| counter(context, context.record.bytes_in.get())),
    ("websocket_bytes_out", |context| counter(context, context.record.bytes_out.get())),
    ("websocket_close_code", |context| Some(context.record.close_code()?.to_string())),
    ("websocket_closed_by", |context| {
        Some(match context.record.closed.get()?.by {
            Side::Client => "client".to_owned(),
            Side::Server => "server".to_owned(),
        })
    }),
    ("websocket_exec_pid", |context| context.record.exec_pid.get().map(|pid| pid.to_string())),
    ("websocket_exec_status", |context| {
        Some(match context.record.exec_status.get()? {
            ExitStatus::Code(code) => code.to_string(),
            ExitStatus::Signal(signal) => format!("signal {signal}"),
        })
    }),
    ("websocket_session_time", |context| {
        let time = context.record.time.get().until(now())?;
        Some(format!("{}.{:03}", time / 1000, time % 1000))
    }),
    ("websocket_message_id", |context| context.record.message_id.get().map(|id| id.to_string())),
];

const OCTETS_VARIABLES: &[(&str, OctetsValue)] = &[
    // Of the request, whether it becomes a session or not.
    ("websocket_tcp_target", tcp::token_target),
    ("websocket_channel_id", |request| {
        let known = context_of(request).and_then(Context::channel_id).map(Cow::Borrowed);
        let ids = known.or_else(|| channel::ids_of(request.main()).map(Cow::Owned))?;
        Some(String::from_utf8_lossy(&ids).into_owned().into_bytes())
    }),
    ("websocket_channel_transport", |request| {
        let known = context_of(request).and_then(|context| context.transport.get());
        Some(known.or_else(|| channel::transport_of(request.main()))?.name().into())
    }),
    ("websocket_exec_note", |request| context_of(request)?.notes()?.all()),
];

/// What the name of a variable begins with that is one note; the rest is the name of the note.
const NOTE: &str = "websocket_exec_note_";

/// What is known of a request: a hook's location is asked by a subrequest, and internal redirections forget what a module keeps for one.
fn context_of(request: Request<'_>) -> Option<&Context> {
    request.existing_context().or_else(|| request.main().existing_context())
}

/// A request that was no WebSocket has no counts.
fn counter(context: &Context, count: u64) -> Option<String> {
    context.endpoint.get().map(|_| count.to_string())
}

/// Tells nginx of the variables. `false` when it refuses.
pub fn add(cf: *mut ngx_conf_t) -> bool {
    let names = VARIABLES.iter().map(|(name, _)| *name).chain(OCTETS_VARIABLES.iter().map(|(name, _)| *name));
    names.enumerate().all(|(place, name)| add_one(cf, name, 0, get, place))
        && add_one(cf, NOTE, NGX_HTTP_VAR_PREFIX, get_note, 0)
}

type Getter = unsafe extern "C" fn(*mut ngx_http_request_t, *mut ngx_http_variable_value_t, usize) -> ngx_int_t;

fn add_one(cf: *mut ngx_conf_t, name: &str, flags: u32, getter: Getter, data: usize) -> bool {
    let mut text = ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() };
    // SAFETY: cf is valid during preconfiguration; nginx copies the name.
    unsafe {
        let variable = ngx_http_add_variable(cf, &raw mut text, (NGX_HTTP_VAR_NOCACHEABLE | flags) as usize);
        if variable.is_null() {
            return false;
        }
        (*variable).get_handler = Some(getter);
        (*variable).data = data;
    }
    true
}

unsafe extern "C" fn get(
    request: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    place: usize,
) -> ngx_int_t {
    guard_status(Status::ERROR, || {
        // SAFETY: nginx calls with a live request and a value to fill.
        unsafe {
            let request = Request::new(request);
            let text = match VARIABLES.get(place) {
                Some((_, get)) => context_of(request).and_then(get).map(String::into_bytes),
                None => OCTETS_VARIABLES.get(place - VARIABLES.len()).and_then(|(_, get)| get(request)),
            };
            fill(request, value, text)
        }
    })
}

/// One note, whose name is in the name of the variable.
unsafe extern "C" fn get_note(
    request: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    name: usize,
) -> ngx_int_t {
    guard_status(Status::ERROR, || {
        // SAFETY: nginx calls with a live request and a value to fill, and, because the variable is one of a prefix, with a pointer to the
        // whole name, which lives as long as the configuration or is on the stack of the caller.
        unsafe {
            let request = Request::new(request);
            let name = bytes(&*ptr::with_exposed_provenance::<ngx_str_t>(name));
            let note = name.get(NOTE.len()..).unwrap_or_default();
            fill(request, value, context_of(request).and_then(|context| context.notes()?.get(note)))
        }
    })
}

/// Gives nginx a value; without a text there is none.
///
/// # Safety
///
/// The value is one that nginx has given to be filled.
unsafe fn fill(request: Request<'_>, value: *mut ngx_http_variable_value_t, text: Option<Vec<u8>>) -> Status {
    let copy = match &text {
        Some(text) => match request.copy(text) {
            Some(copy) => Some(copy),
            None => return Status::ERROR,
        },
        None => None,
    };
    // SAFETY: the caller has the value from nginx; the copy is in the request's pool.
    unsafe {
        let text = copy.unwrap_or(ngx_str_t { len: 0, data: ptr::null_mut() });
        (*value).data = text.data;
        (*value).set_len(text.len as std::ffi::c_uint);
        (*value).set_valid(copy.is_some().into());
        (*value).set_no_cacheable(1);
        (*value).set_not_found(copy.is_none().into());
    }
    Status::OK
}
