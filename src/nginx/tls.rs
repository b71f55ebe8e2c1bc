// SPDX-License-Identifier: Apache-2.0

//! TLS to a server, by nginx's own: contexts of a configuration, and handshakes of connections that this module has opened.

use std::ffi::CStr;
use std::net::IpAddr;

use super::ffi;
use super::log::{self, Level, Octets};
use super::status::Status;
use super::tcp::socket::Socket;
use crate::conf::TlsVersions;

/// A context, in the pool of its configuration.
#[derive(Debug, Clone, Copy)]
pub struct Tls(*mut ffi::ngx_ssl_t);

/// What a context is made of. All of it is in the pool of the configuration, and empty where there is none.
pub struct Parts {
    /// The file of the certificates that are trusted.
    pub trusted: ffi::ngx_str_t,
    /// The file of what this side shows, with its key.
    pub certificate: ffi::ngx_str_t,
    /// The file of the key of the certificate.
    pub key: ffi::ngx_str_t,
    /// The file of the certificates that are revoked.
    pub crl: ffi::ngx_str_t,
    /// Ciphers up to TLS 1.2; empty for OpenSSL's own choice.
    pub ciphers: ffi::ngx_str_t,
    /// Versions that are spoken.
    pub versions: TlsVersions,
}

impl Tls {
    /// Makes a context for `directive` of the configuration that is being read. `None` when that cannot be; the reason is logged.
    pub fn create(cf: *mut ffi::ngx_conf_t, directive: &CStr, parts: Parts) -> Option<Self> {
        let Parts { trusted, certificate, key, crl, ciphers, versions } = parts;
        let mut parts =
            ffi::ngx_ws_ssl_parts_t { trusted, certificate, key, crl, ciphers, versions: usize::from(versions.0) };
        // SAFETY: the configuration is being read; nginx makes the paths full ones in its pool.
        let context = unsafe { ffi::ngx_ws_ssl_create(cf, directive.as_ptr(), &raw mut parts) };
        (!context.is_null()).then_some(Tls(context))
    }
}

/// Called with the connection of a handshake.
pub type OnEnd = unsafe extern "C" fn(*mut ffi::ngx_connection_t);

/// Notes that `on_end` was called, for [`is_over`].
pub fn ended(connection: *mut ffi::ngx_connection_t) {
    // SAFETY: nginx has called with a connection that lives.
    unsafe { ffi::ngx_ws_ssl_end(connection) };
}

/// Whether the handshake of a connection is over, for whoever is called for other reasons too.
pub fn is_over(socket: &Socket) -> bool {
    // SAFETY: the socket has its connection until drop.
    unsafe { ffi::ngx_ws_ssl_is_over(socket.raw()) != 0 }
}

/// How far a handshake is.
pub enum Handshake {
    /// The handshake goes on; whoever was named for its end is called.
    Waiting,
    /// The handshake is done, and the certificate is one to trust if that was asked for.
    Done,
    /// The server cannot be talked to.
    Failed,
}

/// Who the server of one connection has to be.
pub struct Identity {
    /// The name to ask for and to verify, ended by a NUL. An address has no brackets.
    name: Box<[u8]>,
    is_address: bool,
    verify: bool,
}

impl Identity {
    /// The server has this name, or this address, whose brackets do not matter.
    pub fn new(name: &[u8], verify: bool) -> Self {
        let unbracketed = name.strip_prefix(b"[").and_then(|name| name.strip_suffix(b"]")).unwrap_or(name);
        let is_address = str::from_utf8(unbracketed).is_ok_and(|name| name.parse::<IpAddr>().is_ok());
        let name = if is_address { unbracketed } else { name };
        Identity { name: [name, b"\0"].concat().into(), is_address, verify }
    }

    fn name(&self) -> &[u8] {
        self.name.strip_suffix(b"\0").unwrap_or(&self.name)
    }

    fn as_nginx(&self) -> ffi::ngx_str_t {
        ffi::ngx_str_t { len: self.name().len(), data: self.name.as_ptr().cast_mut() }
    }

    /// The name for SNI: addresses and paths are none (RFC 6066, section 3).
    fn to_ask_for(&self) -> ffi::ngx_str_t {
        let name = self.name();
        let is_name = !self.is_address && !name.contains(&b':') && !name.contains(&b'/');
        ffi::ngx_str_t { len: if is_name { name.len() } else { 0 }, ..self.as_nginx() }
    }

    /// Begins. `on_end` is called if it is over later, one way or the other.
    pub fn begin(&self, tls: Tls, socket: &Socket, on_end: OnEnd) -> Handshake {
        let mut name = self.to_ask_for();
        // SAFETY: connection and context live; the name is ended by a NUL, and OpenSSL copies it.
        if unsafe { ffi::ngx_ws_ssl_start(tls.0, socket.raw(), &raw mut name) } != Status::OK {
            return Handshake::Failed;
        }
        // SAFETY: the connection lives, and has its TLS session since the call before this one has succeeded.
        match unsafe { ffi::ngx_ws_ssl_handshake(socket.raw(), Some(on_end)) } {
            again if again == Status::AGAIN => Handshake::Waiting,
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
            let mut name = self.as_nginx();
            match ffi::ngx_ws_ssl_unverified(socket.raw(), &raw mut name, self.is_address.into()).as_ref() {
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
