// SPDX-License-Identifier: Apache-2.0

//! Where the servers of an engine are: addresses that were looked up with the configuration, and those that servers tell of.

use std::ffi::CStr;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use crate::nginx::ffi;
use crate::nginx::log;
use crate::nginx::request::bytes;
use crate::nginx::status::Status;
use crate::nginx::template;
use crate::redis::url::Node;

/// A text that nginx may look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Its octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// As nginx has it. The octets live as long as the name.
    pub fn as_nginx(&self) -> ffi::ngx_str_t {
        ffi::ngx_str_t { len: self.0.len(), data: self.0.as_ptr().cast_mut() }
    }
}

/// An address of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A `sockaddr`.
    pub octets: Box<[u8]>,
    /// The address in words.
    pub name: Name,
}

impl Address {
    /// The address with another port; `None` for a unix socket.
    fn with_port(&self, port: u16) -> Option<Self> {
        let family = self.octets.first_chunk().map(|family| u16::from_ne_bytes(*family))?;
        let ip: IpAddr = match i32::from(family) {
            // The address follows family and port; of IPv6 also the flow (netinet/in.h).
            libc::AF_INET => <[u8; 4]>::try_from(self.octets.get(4..8)?).ok()?.into(),
            libc::AF_INET6 => <[u8; 16]>::try_from(self.octets.get(8..24)?).ok()?.into(),
            _ => return None,
        };
        Some(Address::from(SocketAddr::new(ip, port)))
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        // As in netinet/in.h: family, port, and then what each family has.
        let mut octets = Vec::with_capacity(size_of::<libc::sockaddr_in6>());
        let family = match address {
            SocketAddr::V4(_) => libc::AF_INET,
            SocketAddr::V6(_) => libc::AF_INET6,
        };
        // Families are small numbers.
        octets.extend_from_slice(&(family as libc::sa_family_t).to_ne_bytes());
        octets.extend_from_slice(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(address) => {
                octets.extend_from_slice(&address.ip().octets());
                octets.resize(size_of::<libc::sockaddr_in>(), 0);
            }
            SocketAddr::V6(address) => {
                octets.extend_from_slice(&[0; 4]);
                octets.extend_from_slice(&address.ip().octets());
                octets.resize(size_of::<libc::sockaddr_in6>(), 0);
            }
        }
        Address { octets: octets.into(), name: Name(address.to_string().into_bytes().into()) }
    }
}

/// A server, or Sentinel, by its name and by the addresses that this name has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The name, an address without brackets, or the path of a socket.
    pub name: Box<str>,
    /// Invariant: never empty.
    pub addresses: Vec<Address>,
}

impl Host {
    /// Looks a server up for the configuration that is being read. `None` when there is no such name, which was logged.
    pub fn look_up(cf: *mut ffi::ngx_conf_t, name: &str, text: &str) -> Option<Self> {
        let copy = template::copy(cf, text.as_bytes()).ok()?;
        // SAFETY: the configuration is being read, and nginx allocates in its pool. The url is a C struct for which all zeroes is a
        // value; its addresses are an array of the length that it says.
        unsafe {
            let mut url: ffi::ngx_url_t = std::mem::zeroed();
            url.url = copy;
            url.default_port = 6379;
            if ffi::ngx_parse_url((*cf).pool, &raw mut url) != Status::OK {
                let reason = match url.err.is_null() {
                    true => "no memory".to_owned(),
                    false => CStr::from_ptr(url.err).to_string_lossy().into_owned(),
                };
                log::configuration(cf, format_args!("\"websocket_channel_redis\" directive: \"{text}\": {reason}"));
                return None;
            }
            let address = |address: &ffi::ngx_addr_t| Address {
                octets: std::slice::from_raw_parts(address.sockaddr.cast::<u8>(), address.socklen as usize).into(),
                name: Name(bytes(&address.name).into()),
            };
            let addresses: Vec<Address> =
                std::slice::from_raw_parts(url.addrs, url.naddrs).iter().map(address).collect();
            (!addresses.is_empty()).then(|| Host { name: name.into(), addresses })
        }
    }

    /// A server that another one tells of, by its address or by a name that the configuration has. `None` for other names: whoever waits
    /// for an answer of a name server waits for it with all locations.
    pub fn told(node: &Node, known: &[Rc<Host>]) -> Option<Self> {
        let addresses: Vec<Address> = match node.host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, node.port).into()],
            Err(_) => {
                let host = known.iter().find(|host| host.name.eq_ignore_ascii_case(&node.host))?;
                host.addresses.iter().filter_map(|address| address.with_port(node.port)).collect()
            }
        };
        (!addresses.is_empty()).then(|| Host { name: node.host.as_str().into(), addresses })
    }
}
