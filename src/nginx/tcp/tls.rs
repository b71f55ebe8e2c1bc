// SPDX-License-Identifier: Apache-2.0

//! TLS to a service.

use std::ffi::CStr;
use std::net::IpAddr;

use super::socket::Socket;
use crate::conf::{Endpoint, Settings};
use crate::nginx::ffi;
use crate::nginx::log::{self, Level, Octets};
use crate::nginx::request::Request;
use crate::nginx::template::{self, NginxCompiler};

/// The context of a location, in the pool of its configuration.
#[derive(Clone, Copy)]
pub struct Tls(*mut ffi::ngx_ssl_t);

/// Makes the context for a location that needs one, after it has inherited its settings. `false` when it cannot be; the
/// reason is logged.
pub fn prepare(cf: *mut ffi::ngx_conf_t, settings: &mut Settings<NginxCompiler>) -> bool {
    if !matches!(settings.endpoint, Some(Endpoint::Tcp(_))) || !settings.tcp_ssl() {
        return true;
    }
    let file = settings.tcp_ssl_trusted_certificate();
    if settings.tcp_ssl_verify() && file.is_empty() {
        let needed = "\"websocket_tcp_ssl_verify\" directive needs \"websocket_tcp_ssl_trusted_certificate\"";
        log::configuration(cf, format_args!("{needed}"));
        return false;
    }
    let Ok(mut file) = template::copy(cf, &file) else { return false };
    // SAFETY: the configuration is being read; nginx makes the path a full one in its pool.
    let context = unsafe { ffi::ngx_ws_ssl_create(cf, &raw mut file) };
    if context.is_null() {
        return false;
    }
    settings.tcp_tls = Some(Tls(context));
    true
}

/// Called with the connection of a handshake.
pub type OnEnd = unsafe extern "C" fn(*mut ffi::ngx_connection_t);

/// How far a handshake is.
pub enum Handshake {
    /// It goes on; the session is run when there is something new.
    Waiting,
    /// It is done, and the certificate is one to trust if that was asked for.
    Done,
    /// The service cannot be talked to.
    Failed,
}

/// What the handshake of one session needs.
pub struct Identity {
    /// The name to ask for and to verify, ended by a NUL that is not counted.
    name: ffi::ngx_str_t,
    verify: bool,
}

impl Identity {
    /// The name that is configured, or that of the address. `None` when there is no memory.
    pub fn new(request: Request, host: &[u8]) -> Option<Self> {
        let settings = request.settings();
        let name = match settings.tcp_ssl_name() {
            Some(template) => template.evaluate(request)?,
            None => host,
        };
        let mut name = request.copy(&[name, b"\0"].concat())?;
        name.len -= 1;
        Some(Identity { name, verify: settings.tcp_ssl_verify() })
    }

    fn name<'a>(&self) -> &'a [u8] {
        crate::nginx::request::bytes(&self.name)
    }

    /// The name for SNI: addresses and paths are none (RFC 6066, section 3).
    fn to_ask_for(&self) -> ffi::ngx_str_t {
        let name = self.name();
        let unbracketed = name.strip_prefix(b"[").and_then(|name| name.strip_suffix(b"]")).unwrap_or(name);
        let is_address = str::from_utf8(unbracketed).is_ok_and(|name| name.parse::<IpAddr>().is_ok());
        if is_address || name.contains(&b':') || name.contains(&b'/') {
            ffi::ngx_str_t { len: 0, data: self.name.data }
        } else {
            self.name
        }
    }

    /// Begins. `on_end` is called if it is over later, one way or the other.
    pub fn begin(&self, tls: Tls, socket: &Socket, on_end: OnEnd) -> Handshake {
        let mut name = self.to_ask_for();
        // SAFETY: connection and context live; the name is ended by a NUL.
        if unsafe { ffi::ngx_ws_ssl_start(tls.0, socket.raw(), &raw mut name) } != ffi::NGX_OK as isize {
            return Handshake::Failed;
        }
        // SAFETY: as above.
        match unsafe { ffi::ngx_ws_ssl_handshake(socket.raw(), Some(on_end)) } {
            again if again == ffi::NGX_AGAIN as isize => Handshake::Waiting,
            _ => self.look(socket),
        }
    }

    /// nginx says that it is over. It is not to be asked again: OpenSSL may take a failure for the beginning of another
    /// handshake.
    pub fn finish(&self, socket: &Socket) -> Handshake {
        self.look(socket)
    }

    fn look(&self, socket: &Socket) -> Handshake {
        // SAFETY: the connection lives; the text is OpenSSL's or the shim's, and static.
        unsafe {
            if ffi::ngx_ws_ssl_handshaked(socket.raw()) == 0 {
                return Handshake::Failed;
            }
            if !self.verify {
                return Handshake::Done;
            }
            let mut name = self.name;
            match ffi::ngx_ws_ssl_unverified(socket.raw(), &raw mut name).as_ref() {
                None => Handshake::Done,
                Some(why) => {
                    let why = CStr::from_ptr(why).to_string_lossy();
                    let name = Octets(self.name());
                    let text = format_args!("the certificate of the service \"{name}\" is not to be trusted: {why}");
                    log::write((*socket.raw()).log, Level::Error, text);
                    Handshake::Failed
                }
            }
        }
    }
}
