// SPDX-License-Identifier: Apache-2.0

//! Counts the requests of locations with an endpoint that were refused: by this module when it answers them, and the others, of
//! nginx's own modules above all, which have their say before it is asked, when they are logged.

use super::ffi;
use super::guard::guard_status;
use super::ledger;
use super::request::Request;
use super::status::Status;
use crate::status::Refused;

/// Counts the answer of this module to a request, if it is a refusal. To be called before an error page can take the request over.
pub fn count(request: Request<'_>, status: Status) {
    let Some(status) = refusing(status) else { return };
    let Some(context) = request.context() else { return };
    if context.is_counted.get() {
        return;
    }
    context.is_counted.set(true);
    note(request, if context.is_foreign.get() { Refused::by_origin() } else { Refused::by_endpoint(status) });
}

/// A status that refuses. A client that has gone before it was answered is not refused.
fn refusing(status: Status) -> Option<u16> {
    let is_refusal =
        |status: &u16| (400..600).contains(status) && u32::from(*status) != ffi::NGX_HTTP_CLIENT_CLOSED_REQUEST;
    status.answer().filter(is_refusal)
}

fn note(request: Request<'_>, kind: Refused) {
    let settings = request.settings();
    if request.is_main()
        && settings.counted_as().is_some()
        && let Some(own) = ledger::own()
    {
        own.refused(settings.key as usize, kind);
    }
}

/// The request is over: counts it, if it was refused and nobody has done so.
pub unsafe extern "C" fn on_log(request: *mut ffi::ngx_http_request_t) -> ffi::ngx_int_t {
    guard_status(Status::OK, || {
        // SAFETY: nginx calls with a live request.
        let request = unsafe { Request::new(request) };
        let status = request.answered();
        match request.existing_context() {
            Some(context) if context.endpoint.get().is_some() => count(request, status),
            Some(_) | None => {
                if let Some(status) = refusing(status) {
                    note(request, Refused::before(status));
                }
            }
        }
        Status::OK
    })
}
