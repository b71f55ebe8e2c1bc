// SPDX-License-Identifier: Apache-2.0

//! The users that programs are started as (`websocket_exec_user`), and the process that makes spawners for them.

use std::cell::OnceCell;
use std::ffi::{CStr, CString};
use std::io;
use std::rc::Rc;

use super::ffi;
use super::identity::Identity;
use crate::conf::Refused;
use crate::exec::spawner::{Account, Baseline, Keeper, Role, Spawner};

/// A user that a location names, as the system knew it when the configuration was read.
pub struct User {
    name: CString,
    account: Account,
    home: Vec<u8>,
    shell: Vec<u8>,
    /// Its number in the keeper's list.
    number: u32,
    /// The keeper of the configuration, once it is there.
    keeper: Rc<OnceCell<Keeper>>,
}

impl User {
    /// Whether programs run the same for both, which may be of two configurations.
    pub fn is(&self, other: &Self) -> bool {
        self.name == other.name && self.account == other.account
    }

    /// For messages, and for looking at files with its rights.
    pub fn identity(&self) -> Identity {
        Identity::new(self.account.uid, self.account.gid, self.name.clone())
    }

    /// What a program of a user expects in its environment.
    pub fn environment(&self) -> [(&[u8], &[u8]); 4] {
        let name = self.name.to_bytes();
        [(b"HOME", &self.home), (b"USER", name), (b"LOGNAME", name), (b"SHELL", &self.shell)]
    }

    /// Asks for a spawner of this user, without waiting.
    ///
    /// # Errors
    ///
    /// There is no keeper any more, or it does not answer.
    pub fn spawner(&self) -> io::Result<Spawner> {
        // Without one the configuration was refused.
        let keeper = self.keeper.get().ok_or_else(|| io::Error::from_raw_os_error(libc::EPIPE))?;
        Spawner::launch_as(keeper, self.number)
    }
}

/// The users of one configuration.
#[derive(Default)]
pub struct Users {
    list: Vec<Rc<User>>,
    /// A location has a program of one of them.
    is_needed: bool,
    keeper: Rc<OnceCell<Keeper>>,
}

impl Users {
    /// Looks a user up for a directive.
    ///
    /// # Errors
    ///
    /// [`Refused`], with what is wrong about it.
    pub fn enter(&mut self, name: &[u8], group: Option<&[u8]>) -> Result<Rc<User>, Refused> {
        // SAFETY: geteuid takes no pointer and always succeeds.
        if unsafe { libc::geteuid() } != 0 {
            let reason = "only a master process that runs as root can start programs as another user";
            return Err(Refused::Usage(reason.to_owned()));
        }
        let mut user = look_up(name)?;
        if let Some(group) = group {
            user.account.gid = group_of(group)?;
        }
        if user.account.uid == 0 {
            return Err(wrong(name, "programs are not started as root"));
        }
        if user.account.gid == 0 {
            return Err(wrong(group.unwrap_or(name), "programs are not started in the group of root"));
        }
        user.account.groups = groups_of(&user.name, user.account.gid);
        if let Some(known) = self.list.iter().find(|known| known.is(&user)) {
            return Ok(Rc::clone(known));
        }
        user.number = u32::try_from(self.list.len()).map_err(|_| wrong(name, "there are too many users"))?;
        user.keeper = Rc::clone(&self.keeper);
        let user = Rc::new(user);
        self.list.push(Rc::clone(&user));
        Ok(user)
    }

    /// A location has a program that one of them runs.
    pub fn need(&mut self) {
        self.is_needed = true;
    }

    /// Makes the keeper of this configuration, if it needs one, which calls `in_child` in each process that it makes. It ends with the last process that has the configuration.
    ///
    /// # Errors
    ///
    /// It cannot be made, or cannot do what it is for.
    pub fn start_keeper(&self, baseline: &Baseline, in_child: fn(Role)) -> io::Result<()> {
        if !self.is_needed {
            return Ok(());
        }
        let accounts: Vec<Account> = self.list.iter().map(|user| user.account.clone()).collect();
        let keeper = Keeper::start(&accounts, baseline, in_child)?;
        // A configuration is read once.
        let _ = self.keeper.set(keeper);
        Ok(())
    }
}

/// Whether the configuration that is read now is to be run, and not only to be looked at.
pub fn is_serious() -> bool {
    // SAFETY: nginx sets both before it reads a configuration, and has one thread.
    unsafe { ffi::ngx_test_config == 0 && ffi::ngx_process != ffi::NGX_PROCESS_SIGNALLER as usize }
}

fn wrong(value: &[u8], reason: impl Into<String>) -> Refused {
    Refused::Wrong { value: String::from_utf8_lossy(value).into_owned(), reason: reason.into() }
}

/// Why a name is not in a list of the system.
fn unknown(value: &[u8], what: &str) -> Refused {
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // What C libraries say of a name that is not there (getpwnam(3)).
        None | Some(0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM) => {
            wrong(value, format!("there is no such {what}"))
        }
        Some(_) => wrong(value, format!("looking up the {what} failed ({error})")),
    }
}

fn clear_errno() {
    // SAFETY: the C library has a place for the error of each thread.
    unsafe { *libc::__errno_location() = 0 };
}

fn look_up(name: &[u8]) -> Result<User, Refused> {
    let in_c = CString::new(name).map_err(|_| wrong(name, "there is no such user"))?;
    clear_errno();
    // SAFETY: the name is a C string; what is returned is valid until the next call, and the strings in it are C strings, as
    // far as there are any.
    unsafe {
        let found = libc::getpwnam(in_c.as_ptr()).as_ref().ok_or_else(|| unknown(name, "user"))?;
        let text = |text: *const libc::c_char| {
            if text.is_null() { Vec::new() } else { CStr::from_ptr(text).to_bytes().to_vec() }
        };
        let shell = Some(text(found.pw_shell)).filter(|shell| !shell.is_empty());
        Ok(User {
            name: in_c,
            account: Account { uid: found.pw_uid, gid: found.pw_gid, groups: Vec::new() },
            home: text(found.pw_dir),
            shell: shell.unwrap_or_else(|| b"/bin/sh".to_vec()),
            number: 0,
            keeper: Rc::default(),
        })
    }
}

fn group_of(name: &[u8]) -> Result<libc::gid_t, Refused> {
    let in_c = CString::new(name).map_err(|_| wrong(name, "there is no such group"))?;
    clear_errno();
    // SAFETY: the name is a C string; what is returned is valid until the next call.
    unsafe { libc::getgrnam(in_c.as_ptr()).as_ref() }.map(|group| group.gr_gid).ok_or_else(|| unknown(name, "group"))
}

/// The groups that initgroups(3) would give the user, the primary one among them.
fn groups_of(name: &CStr, primary: libc::gid_t) -> Vec<libc::gid_t> {
    // More than the system lets a process have.
    const MOST: usize = 1 << 17;
    let mut groups = vec![0; 64];
    loop {
        let mut count = libc::c_int::try_from(groups.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the list has as much room as is said; the name is a C string.
        let result = unsafe { libc::getgrouplist(name.as_ptr(), primary, groups.as_mut_ptr(), &raw mut count) };
        let needed = usize::try_from(count).unwrap_or_default();
        if result >= 0 || groups.len() >= MOST {
            groups.truncate(needed);
            return groups;
        }
        groups.resize(needed.max(groups.len() * 2), 0);
    }
}
