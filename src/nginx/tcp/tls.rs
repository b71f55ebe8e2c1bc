// SPDX-License-Identifier: Apache-2.0

//! TLS to a service, as its location says.

use crate::conf::{EndpointSettings, Settings, TlsVersions};
use crate::nginx::ffi;
use crate::nginx::log;
use crate::nginx::request::Request;
use crate::nginx::template::{self, NginxCompiler};
use crate::nginx::tls::{Identity, Parts, Tls};

/// Makes the context for a location that needs one, after it has inherited its settings. `false` when it cannot be; the
/// reason is logged.
pub fn prepare(cf: *mut ffi::ngx_conf_t, settings: &mut Settings<NginxCompiler>) -> bool {
    if !matches!(settings.endpoint, Some(EndpointSettings::Tcp(_))) || !settings.tcp_ssl() {
        return true;
    }
    let (trusted, crl) = (settings.tcp_ssl_trusted_certificate(), settings.tcp_ssl_crl());
    let (certificate, key) = (settings.tcp_ssl_certificate(), settings.tcp_ssl_certificate_key());
    let needs = [
        (settings.tcp_ssl_verify(), &trusted, "verify", "trusted_certificate"),
        (!crl.is_empty(), &trusted, "crl", "trusted_certificate"),
        (!certificate.is_empty(), &key, "certificate", "certificate_key"),
        (!key.is_empty(), &certificate, "certificate_key", "certificate"),
    ];
    for (is_set, file, directive, needed) in needs {
        if is_set && file.is_empty() {
            let reason = format!("\"websocket_tcp_ssl_{directive}\" directive needs \"websocket_tcp_ssl_{needed}\"");
            log::configuration(cf, format_args!("{reason}"));
            return false;
        }
    }
    let ciphers = settings.tcp_ssl_ciphers();
    settings.tcp_tls = create(cf, [&trusted, &certificate, &key, &crl, &ciphers], settings.tcp_ssl_protocols());
    settings.tcp_tls.is_some()
}

fn create(cf: *mut ffi::ngx_conf_t, texts: [&[u8]; 5], versions: TlsVersions) -> Option<Tls> {
    let [trusted, certificate, key, crl, ciphers] = texts.map(|text| template::copy(cf, text).ok());
    let (trusted, certificate, key, crl, ciphers) = (trusted?, certificate?, key?, crl?, ciphers?);
    Tls::create(cf, c"websocket_tcp_ssl", Parts { trusted, certificate, key, crl, ciphers, versions })
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
