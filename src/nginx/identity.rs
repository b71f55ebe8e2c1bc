// SPDX-License-Identifier: Apache-2.0

//! Whom workers run as, and with them programs: what "Permission denied" is about.

use std::ffi::{CStr, CString, c_char};
use std::fmt;

use super::conf_ctx;
use super::ffi;
use super::log::Octets;
use super::user::User;

/// A user of the system, with the groups that nginx gives its workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    uid: libc::uid_t,
    gid: libc::gid_t,
    /// As in the directive "user", where that counts.
    name: Option<CString>,
}

impl Identity {
    /// A user of this name.
    pub fn new(uid: libc::uid_t, gid: libc::gid_t, name: CString) -> Self {
        Self { uid, gid, name: Some(name) }
    }

    /// The workers of a configuration, all of which has been read: whom "user" names if the master runs as root, else the
    /// master's own user.
    pub fn of_workers(cycle: *mut ffi::ngx_cycle_t) -> Self {
        // SAFETY: every cycle has the settings of nginx's core; the name is a C string that lives as long as they.
        let (wanted, name) = unsafe {
            let core = &*conf_ctx::core_of_cycle(cycle);
            let name = core.username.cast::<c_char>();
            ((core.user, core.group), (!name.is_null()).then(|| CStr::from_ptr(name).to_owned()))
        };
        // SAFETY: these calls take no pointer and always succeed.
        let own = unsafe { (libc::geteuid(), libc::getegid()) };
        match name {
            Some(name) if own.0 == 0 || own.0 == wanted.0 => Self { uid: wanted.0, gid: wanted.1, name: Some(name) },
            Some(_) | None => Self { uid: own.0, gid: own.1, name: None },
        }
    }

    /// The calling process.
    pub fn of_this_process() -> Self {
        // SAFETY: nginx sets the cycle before any module is called.
        Self::of_workers(unsafe { ffi::ngx_cycle })
    }

    /// Calls `body` with the access to files that this user has; `None` where the calling process cannot have that.
    ///
    /// Only what the system checks for files changes (setfsuid(2)), and only until this returns. The process must have
    /// one thread.
    pub fn act<R>(&self, body: impl FnOnce() -> R) -> Option<R> {
        // SAFETY: geteuid takes no pointer and always succeeds.
        if self.uid == unsafe { libc::geteuid() } {
            return Some(body());
        }
        let _restored = Acting::begin(self)?;
        Some(body())
    }
}

impl fmt::Display for Identity {
    /// `user "www-data"`, or `the user with the id 1000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "user \"{}\"", Octets(name.to_bytes())),
            None => write!(f, "the user with the id {}", self.uid),
        }
    }
}

/// What the calling process had before it acted as somebody else; given back when it is dropped.
struct Acting {
    groups: Vec<libc::gid_t>,
    uid: libc::uid_t,
    gid: libc::gid_t,
}

impl Acting {
    fn begin(identity: &Identity) -> Option<Self> {
        let name = identity.name.as_ref()?;
        // SAFETY: the list has room for as many groups as the system says there are; the name is a C string. None of the calls
        // concerns anything but the calling process.
        unsafe {
            let count = libc::getgroups(0, std::ptr::null_mut());
            let mut groups = vec![0; usize::try_from(count).ok()?];
            if libc::getgroups(count, groups.as_mut_ptr()) != count {
                return None;
            }
            let acting = Self { groups, uid: libc::geteuid(), gid: libc::getegid() };
            if libc::initgroups(name.as_ptr(), identity.gid) != 0 {
                return None;
            }
            libc::setfsgid(identity.gid);
            libc::setfsuid(identity.uid);
            // Both return what was before, whether or not they did anything: an impossible id asks without changing.
            let is_acting = libc::setfsuid(libc::uid_t::MAX).cast_unsigned() == identity.uid
                && libc::setfsgid(libc::gid_t::MAX).cast_unsigned() == identity.gid;
            is_acting.then_some(acting)
        }
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        // SAFETY: the list is as long as is said. The process has had all of this before, so that none of the calls fails.
        unsafe {
            libc::setfsuid(self.uid);
            libc::setfsgid(self.gid);
            libc::setgroups(self.groups.len(), self.groups.as_ptr());
        }
    }
}

/// `, as user "www-data"` where an error of the system depends on that, else nothing: for the end of a message.
pub fn concerning(errno: i32) -> AsWhom {
    AsWhom(matches!(errno, libc::EACCES | libc::EPERM).then(Identity::of_this_process))
}

/// `, as user "name"` of a program that runs as another user, where an error of the system depends on that, else nothing.
pub fn concerning_user(errno: i32, user: &User) -> AsWhom {
    AsWhom(matches!(errno, libc::EACCES | libc::EPERM).then(|| user.identity()))
}

/// `, as user "www-data"`.
pub struct As<'a>(pub &'a Identity);

impl fmt::Display for As<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ", as {}", self.0)
    }
}

/// What a message says of the user that [`concerning`] has found to matter, or nothing.
pub struct AsWhom(Option<Identity>);

impl fmt::Display for AsWhom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(identity) => As(identity).fmt(f),
            None => Ok(()),
        }
    }
}
