// SPDX-License-Identifier: Apache-2.0

//! What the directives of TCP services say of TLS, and of the address that connections come from.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use super::settings::Amount;
use super::{Compiler, Refused, value, words};

/// Versions of TLS, a bit for each from 1.0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsVersions(pub u8);

/// The versions that can be named, in the order of their bits.
const VERSIONS: [&[u8]; 4] = [b"TLSv1", b"TLSv1.1", b"TLSv1.2", b"TLSv1.3"];

impl Default for TlsVersions {
    /// TLS 1.2 and 1.3; older ones are not to be used (RFC 8996).
    fn default() -> Self {
        TlsVersions(0b1100)
    }
}

/// The versions of `websocket_tcp_ssl_protocols`.
///
/// # Errors
///
/// [`Refused`] for another word, or the same one twice.
pub(super) fn tls_versions(words: &[&[u8]]) -> Result<TlsVersions, Refused> {
    let mut versions = 0;
    for word in words {
        let at = VERSIONS.iter().position(|known| word.eq_ignore_ascii_case(known));
        let bit = at.map(|at| 1 << at).filter(|bit| versions & bit == 0);
        versions |=
            bit.ok_or_else(|| Refused::value(word, "\"TLSv1\", \"TLSv1.1\", \"TLSv1.2\" or \"TLSv1.3\", each once"))?;
    }
    Ok(TlsVersions(versions))
}

/// A file of certificates or a key.
///
/// # Errors
///
/// [`Refused`] when it has no name, or one that is another for each request.
pub(super) fn file(text: &[u8]) -> Result<Rc<[u8]>, Refused> {
    if text.is_empty() {
        return Err(Refused::value(text, "a file"));
    }
    if text.contains(&b'$') {
        return Err(Refused::value(text, "a file without variables: it is read with the configuration"));
    }
    words::no_switch(text, "a file")?;
    Ok(Rc::from(text))
}

/// The ciphers of `websocket_tcp_ssl_ciphers`, which OpenSSL looks into.
///
/// # Errors
///
/// [`Refused`] when there are none.
pub(super) fn ciphers(text: &[u8]) -> Result<Rc<[u8]>, Refused> {
    if text.is_empty() {
        return Err(Refused::value(text, "a list of ciphers as OpenSSL knows it"));
    }
    Ok(Rc::from(text))
}

/// The address of `websocket_tcp_bind`; none for "off".
///
/// # Errors
///
/// [`Refused`] for a constant that is no address.
pub(super) fn bind<C: Compiler>(compiler: &mut C, text: &[u8]) -> Result<Option<C::Template>, Refused> {
    if text == b"off" {
        return Ok(None);
    }
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok();
    if !text.contains(&b'$') && !str::from_utf8(text).is_ok_and(is_address) {
        return Err(Refused::value(text, "an address of this machine, with or without a port, or \"off\""));
    }
    compiler.compile(text).map(Some)
}

/// Octets a second; 0 for no limit.
///
/// # Errors
///
/// [`Refused::Value`] for anything but a size.
pub fn transfer_rate(text: &[u8]) -> Result<u64, Refused> {
    value::size(text)
        .map_err(|_| Refused::value(text, "octets in a second such as \"64k\" or \"1m\", or \"0\" for no limit"))
}

/// The rate of `websocket_tcp_upload_rate` and `websocket_tcp_download_rate`.
///
/// # Errors
///
/// [`Refused`] for a constant that is no rate.
pub(super) fn rate<C: Compiler>(compiler: &mut C, text: &[u8]) -> Result<Amount<C::Template>, Refused> {
    if text.contains(&b'$') {
        return compiler.compile(text).map(Amount::Template);
    }
    transfer_rate(text).map(Amount::Fixed)
}
