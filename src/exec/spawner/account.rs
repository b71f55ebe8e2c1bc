// SPDX-License-Identifier: Apache-2.0

//! A user of the system as whom programs are started, and the way from the keeper's few rights to that user's.

use std::ffi::c_int;

use super::sys::privileges;
use super::{Failure, StartStep};

/// A user with its groups, as the system's lists had them when the configuration was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The user.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// All groups, the primary one among them.
    pub groups: Vec<u32>,
}

impl Account {
    /// Makes the calling process this user's for good: real, effective and saved ids, groups, no capability, and a memory
    /// that other processes of the user cannot look into.
    ///
    /// # Errors
    ///
    /// The process may be anything in between, and is to end.
    pub(super) fn assume(&self) -> Result<(), Failure> {
        let failed = |errno: c_int| Failure { stage: StartStep::User, errno };
        privileges::change_user(self.uid, self.gid, &self.groups)
            .map_err(|error| failed(error.raw_os_error().unwrap_or(libc::EPERM)))?;
        // What has just been done is looked at: a program must never run with more than this.
        if privileges::is_user(self.uid, self.gid) && !privileges::has_capabilities() && !privileges::can_return() {
            Ok(())
        } else {
            Err(failed(libc::EPERM))
        }
    }
}
