// SPDX-License-Identifier: Apache-2.0

//! Where a service is: what `websocket_tcp` says, and what that means for one request.

use std::net::{IpAddr, SocketAddr};
use std::ptr;

use crate::conf::{Compiler, Refused};
use crate::nginx::conf_ctx;
use crate::nginx::ffi;
use crate::nginx::request::{Request, bytes};
use crate::nginx::status::Status;
use crate::nginx::template::{ComplexValue, NginxCompiler};

/// The argument of `websocket_tcp`.
#[derive(Clone, Copy)]
pub enum Address {
    /// One group for all requests: an upstream block, or a group that was made of an address and its name looked up.
    Group(Group),
    /// An address that depends on the request.
    Template(ComplexValue),
}

/// A group of servers; it lives as long as its configuration.
#[derive(Clone, Copy)]
pub struct Group(*mut ffi::ngx_http_upstream_srv_conf_t);

impl Group {
    /// nginx's own.
    pub fn raw(self) -> *mut ffi::ngx_http_upstream_srv_conf_t {
        self.0
    }

    /// Whether it is an `upstream` block, and no address that stands somewhere in the configuration.
    pub fn is_block(self) -> bool {
        // SAFETY: the group lives as long as its configuration, which outlives its requests.
        unsafe { (*self.0).flags & ffi::NGX_HTTP_UPSTREAM_CREATE as usize != 0 }
    }

    /// The port of its address; 0 if there is none.
    pub fn port(self) -> u16 {
        // SAFETY: the group lives as long as its configuration, which outlives its requests.
        unsafe { (*self.0).port }
    }

    /// Its name, or the host of its address.
    pub fn host(&self) -> &[u8] {
        // SAFETY: the group lives as long as its configuration, which outlives its requests.
        unsafe { bytes(&(*self.0).host) }
    }
}

impl Address {
    /// Compiles the argument for the directive that is being read.
    ///
    /// # Errors
    ///
    /// [`Refused::Reported`]: nginx has logged why.
    pub fn compile(compiler: &mut NginxCompiler, argument: &[u8]) -> Result<Self, Refused> {
        if argument.contains(&b'$') {
            return compiler.compile(argument).map(Address::Template);
        }
        let text = compiler.copy(argument)?;
        // SAFETY: the configuration is being read; the copy lives as long as it. The url is a C struct for which all zeroes is a value.
        // nginx takes the group of this name, or makes one of the address, whose name it looks up once all of the configuration is read.
        let group = unsafe {
            let mut url: ffi::ngx_url_t = std::mem::zeroed();
            url.url = text;
            url.set_no_resolve(1);
            ffi::ngx_http_upstream_add(compiler.cf(), &raw mut url, 0)
        };
        if group.is_null() { Err(Refused::Reported) } else { Ok(Address::Group(Group(group))) }
    }
}

/// What a request is to be connected to.
pub enum Target {
    /// A group of servers.
    Group(Group),
    /// One server, by its address or its path.
    Server(Resolved),
    /// One or more servers of this name.
    Name(Resolved),
}

impl Target {
    /// Whether it is one unix socket. A group may have some of them beside other servers.
    pub fn is_unix(&self) -> bool {
        match self {
            Target::Group(group) => !group.is_block() && group.host().starts_with(b"/"),
            Target::Server(resolved) => matches!(resolved.path_or_address(), Some(Literal::Path(_))),
            Target::Name(_) => false,
        }
    }
}

/// An address that needs no looking up.
pub enum Literal<'a> {
    /// The path of a unix socket.
    Path(&'a [u8]),
    /// An address of TCP.
    Address(SocketAddr),
}

/// What nginx makes servers of; in the pool of the request.
#[derive(Clone, Copy)]
pub struct Resolved(*mut ffi::ngx_http_upstream_resolved_t);

impl Resolved {
    /// nginx's own.
    pub fn raw(self) -> *mut ffi::ngx_http_upstream_resolved_t {
        self.0
    }

    /// The port of the address.
    pub fn port(self) -> u16 {
        // SAFETY: the address is in the pool of the request, which outlives it.
        unsafe { (*self.0).port }
    }

    /// The address itself, where it was no name.
    pub fn path_or_address(&self) -> Option<Literal<'_>> {
        // SAFETY: in the pool of the request, like the host; the address is null or one that nginx has made of the text.
        unsafe {
            let address = (*self.0).sockaddr.as_ref()?;
            match i32::from(address.sa_family) {
                libc::AF_UNIX => Some(Literal::Path(self.host())),
                _ => socket_address(address).map(Literal::Address),
            }
        }
    }

    /// The host of the address.
    pub fn host(&self) -> &[u8] {
        // SAFETY: in the pool of the request, like the text of the host.
        unsafe { bytes(&(*self.0).host) }
    }
}

/// Why a text is no address. The text itself is not named: it may be what the client sent as a secret.
pub enum Unusable {
    /// nginx has no memory.
    NoMemory,
    /// What is wrong with it.
    Invalid(String),
}

/// Finds out what the value of `websocket_tcp` names: an upstream block first.
///
/// # Errors
///
/// [`Unusable`].
pub fn target(request: Request<'_>, text: &[u8]) -> Result<Target, Unusable> {
    // nginx looks one octet ahead in paths of unix sockets.
    let mut text = request.copy(&[text, b"\0"].concat()).ok_or(Unusable::NoMemory)?;
    text.len -= 1;
    // SAFETY: the request lives; what nginx allocates is in its pool. The url is a C struct for which all zeroes is a value.
    unsafe {
        let pool = (*request.raw()).pool;
        let mut url: ffi::ngx_url_t = std::mem::zeroed();
        url.url = text;
        // To look the name up here would block the worker.
        url.set_no_resolve(1);
        if ffi::ngx_parse_url(pool, &raw mut url) != Status::OK {
            return Err(match url.err.is_null() {
                true => Unusable::NoMemory,
                false => Unusable::Invalid(std::ffi::CStr::from_ptr(url.err).to_string_lossy().into_owned()),
            });
        }
        let no_port = url.no_port() != 0;
        if let Some(group) = group_of(request, bytes(&url.host), url.port, no_port) {
            return Ok(Target::Group(group));
        }
        let is_unix = url.family == libc::AF_UNIX;
        if url.port == 0 && !is_unix {
            return Err(Unusable::Invalid("no port".to_owned()));
        }
        let resolved = ffi::ngx_pcalloc(pool, size_of::<ffi::ngx_http_upstream_resolved_t>())
            .cast::<ffi::ngx_http_upstream_resolved_t>();
        if resolved.is_null() {
            return Err(Unusable::NoMemory);
        }
        (*resolved).host = url.host;
        (*resolved).port = url.port;
        (*resolved).no_port = usize::from(no_port);
        if url.naddrs == 0 || url.addrs.is_null() {
            return Ok(Target::Name(Resolved(resolved)));
        }
        let address = &*url.addrs;
        (*resolved).sockaddr = address.sockaddr;
        (*resolved).socklen = address.socklen;
        (*resolved).name = address.name;
        (*resolved).naddrs = 1;
        Ok(Target::Server(Resolved(resolved)))
    }
}

/// The upstream block, or the group of a constant address, of this host and port.
fn group_of(request: Request<'_>, host: &[u8], port: ffi::in_port_t, no_port: bool) -> Option<Group> {
    // SAFETY: nginx's upstream module is always there; its array holds pointers to groups.
    let groups = unsafe {
        let main = conf_ctx::main_of_request(request.raw(), &raw const ffi::ngx_http_upstream_module);
        let groups = &(*main.cast::<ffi::ngx_http_upstream_main_conf_t>()).upstreams;
        match ptr::NonNull::new(groups.elts.cast::<*mut ffi::ngx_http_upstream_srv_conf_t>()) {
            Some(first) => std::slice::from_raw_parts(first.as_ptr(), groups.nelts),
            None => &[],
        }
    };
    groups.iter().copied().map(Group).find(|group| {
        // SAFETY: nginx's upstream module keeps the groups of its array as long as the configuration.
        let its_port = unsafe { (*group.0).port };
        ((its_port == 0 && no_port) || its_port == port) && group.host().eq_ignore_ascii_case(host)
    })
}

/// An address of nginx; `None` if it is that of a unix socket.
pub fn socket_address(address: *const ffi::sockaddr) -> Option<SocketAddr> {
    // SAFETY: the family tells which struct it is; nginx's addresses are aligned for all of them.
    unsafe {
        match i32::from((*address).sa_family) {
            libc::AF_INET => {
                let address = address.cast::<libc::sockaddr_in>().read_unaligned();
                let ip = u32::from_be(address.sin_addr.s_addr);
                Some(SocketAddr::new(IpAddr::V4(ip.into()), u16::from_be(address.sin_port)))
            }
            libc::AF_INET6 => {
                let address = address.cast::<libc::sockaddr_in6>().read_unaligned();
                let ip = IpAddr::V6(address.sin6_addr.s6_addr.into());
                Some(SocketAddr::new(ip, u16::from_be(address.sin6_port)))
            }
            _ => None,
        }
    }
}
