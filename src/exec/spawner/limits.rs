// SPDX-License-Identifier: Apache-2.0

//! Resource limits (`websocket_exec_limit`).

use std::ffi::c_int;

/// A resource of a process that can be limited (setrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// `nofile`: one more than the highest descriptor.
    Nofile,
    /// `cpu`: seconds of processor time.
    Cpu,
    /// `as`: octets of address space.
    As,
    /// `nproc`: processes of the user, not of the program.
    Nproc,
    /// `core`: octets of a core file.
    Core,
    /// `fsize`: octets of a file that is written.
    Fsize,
}

impl Resource {
    /// All limits, by the names that the directive has for them.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("nofile", Self::Nofile),
        ("cpu", Self::Cpu),
        ("as", Self::As),
        ("nproc", Self::Nproc),
        ("core", Self::Core),
        ("fsize", Self::Fsize),
    ];

    /// Whether the limit is a number of octets, so that it may be written as a size.
    pub const fn is_size(self) -> bool {
        match self {
            Self::As | Self::Core | Self::Fsize => true,
            Self::Nofile | Self::Cpu | Self::Nproc => false,
        }
    }

    /// The system's number for it.
    pub(super) const fn number(self) -> c_int {
        match self {
            Self::Nofile => libc::RLIMIT_NOFILE as c_int,
            Self::Cpu => libc::RLIMIT_CPU as c_int,
            Self::As => libc::RLIMIT_AS as c_int,
            Self::Nproc => libc::RLIMIT_NPROC as c_int,
            Self::Core => libc::RLIMIT_CORE as c_int,
            Self::Fsize => libc::RLIMIT_FSIZE as c_int,
        }
    }
}

/// A limit of a resource, soft and hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What is limited.
    pub resource: Resource,
    /// To how much, in the unit of the resource.
    pub value: u64,
}
