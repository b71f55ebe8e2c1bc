// SPDX-License-Identifier: Apache-2.0

//! TLS to a service, as its location says.

use crate::conf::{EndpointSettings, Settings};
use crate::nginx::ffi;
use crate::nginx::log;
use crate::nginx::request::Request;
use crate::nginx::template::{self, NginxCompiler};
use crate::nginx::tls::{Files, Identity, Tls};

/// Makes the context for a location that needs one, after it has inherited its settings. `false` when it cannot be; the
/// reason is logged.
pub fn prepare(cf: *mut ffi::ngx_conf_t, settings: &mut Settings<NginxCompiler>) -> bool {
    if !matches!(settings.endpoint, Some(EndpointSettings::Tcp(_))) || !settings.tcp_ssl() {
        return true;
    }
    let file = settings.tcp_ssl_trusted_certificate();
    if settings.tcp_ssl_verify() && file.is_empty() {
        let needed = "\"websocket_tcp_ssl_verify\" directive needs \"websocket_tcp_ssl_trusted_certificate\"";
        log::configuration(cf, format_args!("{needed}"));
        return false;
    }
    let (Ok(trusted), Ok(none)) = (template::copy(cf, &file), template::copy(cf, b"")) else { return false };
    let files = Files { trusted, certificate: none, key: none };
    settings.tcp_tls = Tls::create(cf, c"websocket_tcp_ssl", files);
    settings.tcp_tls.is_some()
}

/// Who the service of a request has to be: the name that is configured, or that of the address. `None` when there is no memory.
pub fn identity(request: Request<'_>, host: &[u8]) -> Option<Identity> {
    let settings = request.settings();
    let name = match settings.tcp_ssl_name() {
        Some(template) => template.evaluate(request)?,
        None => host,
    };
    Some(Identity::new(name, settings.tcp_ssl_verify()))
}
