//! The status of all locations (`websocket_status`).

use super::channel::hub;
use super::content;
use super::ffi;
use super::guard::guard;
use super::ledger;
use super::main_settings::MainSettings;
use super::request::Request;
use crate::conf::Refused;
use crate::status::{Channels, Form};

/// Makes this module answer the requests of the location that is being read with the status.
///
/// # Errors
///
/// Why the location cannot show it.
pub fn install(cf: *mut ffi::ngx_conf_t) -> Result<(), Refused> {
    content::take(cf, handler)?;
    let main = MainSettings::of(cf).ok_or(Refused::Reported)?;
    main.use_ledger();
    Ok(())
}

/// The content handler of a location that shows the status.
pub(super) unsafe extern "C" fn handler(request: *mut ffi::ngx_http_request_t) -> ffi::ngx_int_t {
    const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;
    guard(FAILED, || {
        // SAFETY: nginx calls with a live request.
        let request = unsafe { Request::new(request) };
        let Some(form) = request.settings().status else { return ffi::NGX_HTTP_NOT_FOUND as isize };
        if !matches!(request.method(), b"GET" | b"HEAD") {
            request.add_header("Allow", b"GET, HEAD");
            return ffi::NGX_HTTP_NOT_ALLOWED as isize;
        }
        let Some(own) = ledger::own() else { return FAILED };
        let mut snapshot = own.snapshot();
        snapshot.channels = hub::with(|hub| hub.usage()).flatten().map(Channels::from);
        send(request, form, &snapshot.render(form)).unwrap_or(FAILED)
    })
}

/// `None` when there is no memory.
fn send(request: Request, form: Form, body: &str) -> Option<ffi::ngx_int_t> {
    let body = request.copy(body.as_bytes())?;
    if !request.add_header("Cache-Control", b"no-store") {
        return None;
    }
    Some(request.respond(ffi::NGX_HTTP_OK as usize, form.content_type(), body))
}
