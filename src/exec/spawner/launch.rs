// SPDX-License-Identifier: Apache-2.0

//! From the worker to a process of its own.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::account::Account;
use super::descendants::{self, Marks};
use super::server;
use super::sys::{self, SignalSet};
use super::wire;

/// How long the guard goes on killing.
const LAST_WAIT: Duration = Duration::from_secs(10);

/// How long the worker waits for that before it makes another spawner.
const WORKER_WAITS: Duration = Duration::from_secs(1);

/// What a process has from its parent and nginx changes in its workers: the resource limits that `worker_rlimit_*` sets,
/// the processors of `worker_cpu_affinity`, the priority of `worker_priority`. Programs get it as it was before.
#[derive(Clone, Copy)]
pub struct Baseline {
    limits: [(c_int, libc::rlimit); 2],
    /// `None` on a machine with more processors than the set can tell.
    processors: Option<libc::cpu_set_t>,
    priority: c_int,
}

impl std::fmt::Debug for Baseline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Baseline").field("priority", &self.priority).finish_non_exhaustive()
    }
}

impl Baseline {
    /// What the calling process has now: to be taken in the master, where nothing has been changed yet.
    pub fn capture() -> Self {
        let limits = [libc::RLIMIT_NOFILE, libc::RLIMIT_CORE].map(|resource| {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: `limit` has room for the limit; both resources exist, so that the call cannot fail.
            unsafe { libc::getrlimit(resource, &raw mut limit) };
            (resource as c_int, limit)
        });
        let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
        // SAFETY: `set` has the size that is said, and zeros are a valid set.
        let processors = unsafe {
            let result = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr());
            (result == 0).then(|| set.assume_init())
        };
        // SAFETY: the call only reads. Its error value is a valid priority as well, and there is no error for oneself.
        let priority = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        Self { limits, processors, priority }
    }

    /// Gives the calling process what is recorded here, as far as it may: a hard limit that has been lowered stays.
    fn restore(&self) {
        self.restore_limits();
        self.restore_scheduling();
    }

    fn restore_limits(&self) {
        for (resource, wanted) in self.limits {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: `limit` has room for the limit, and is what is passed on.
            unsafe {
                libc::getrlimit(resource as _, &raw mut limit);
                limit.rlim_max = limit.rlim_max.min(wanted.rlim_max);
                limit.rlim_cur = limit.rlim_max.min(wanted.rlim_cur);
                libc::setrlimit(resource as _, &raw const limit);
            }
        }
    }

    fn restore_scheduling(&self) {
        if let Some(set) = &self.processors {
            // SAFETY: `set` has the size that is said.
            unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) };
        }
        // SAFETY: concerns the calling process only. A priority that may not be had is refused without harm.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, self.priority) };
    }
}

/// A process that `launch` makes, as it tells itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The spawner.
    Spawner,
    /// The process that kills what a spawner leaves behind.
    Guard,
    /// The process that makes spawners of other users.
    Keeper,
    /// The process that writes the recordings of sessions.
    Recorder,
}

/// Makes the spawner and its guard. Returns the worker's end of the socket, and the guard's process.
///
/// The guard is a child of the worker, but one that ends without a signal: a handler that waits for any child, nginx's
/// own or that of another module, neither hears of it nor can reap it (clone(2), "the child termination signal").
pub(super) fn launch(baseline: &Baseline, in_child: impl FnMut(Role)) -> io::Result<(OwnedFd, i32)> {
    let (ours, theirs) = sys::socket_pair()?;
    let mask = sys::set_signal_mask(&SignalSet::all());
    // SAFETY: the child calls `become_guard`, which never returns into this function's callers.
    let forked = unsafe { sys::fork_without_signal() };
    if let Ok(0) = forked {
        become_guard(theirs, None, baseline, in_child);
    }
    sys::set_signal_mask(&mask);
    Ok((ours, forked?))
}

/// The guard, and in a process that it makes, the spawner. Both are of this account, or of the user of the calling process.
pub(super) fn become_guard(
    socket: OwnedFd,
    account: Option<&Account>,
    baseline: &Baseline,
    mut in_child: impl FnMut(Role),
) -> ! {
    let served = catch_unwind(AssertUnwindSafe(|| {
        // A hook of the worker would write to descriptors that mean something else here.
        std::panic::set_hook(Box::new(|_| {}));
        if let Some(account) = account
            && let Err(failure) = account.assume()
        {
            return sys::send(socket.as_fd(), &wire::write_unable(failure), &[]);
        }
        prepare(&socket, baseline)?;
        let marks = Marks::new();
        // SAFETY: there is one thread. Both sides go on here and do not return into the worker's code.
        match sys::check(unsafe { libc::fork() })? {
            0 => {
                sys::become_subreaper()?;
                in_child(Role::Spawner);
                server::serve(socket, marks)
            }
            spawner => {
                in_child(Role::Guard);
                guard(socket, spawner, marks);
                Ok(())
            }
        }
    }));
    exit(if matches!(served, Ok(Ok(()))) { 0 } else { 1 })
}

/// Waits for the end of the spawner and kills what is left of its programs. What cannot be killed is not waited for for
/// ever.
///
/// The worker hears of the spawner's end when `socket` is closed here, too: then nothing is left that it could meet again.
fn guard(socket: OwnedFd, spawner: c_int, marks: Marks) {
    // "killall nginx" goes by this name, and is no reason to leave anything behind.
    // SAFETY: the name is a string that ends with NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"ws-exec-guard".as_ptr()) };
    while sys::wait_for_any().is_some_and(|ended| ended != spawner) {}
    let begin = Instant::now();
    let mut socket = Some(socket);
    while descendants::kill_orphans(marks) && begin.elapsed() < LAST_WAIT {
        while sys::reap_any().is_some() {}
        if begin.elapsed() > WORKER_WAITS {
            socket = None;
        }
        // Whoever loses its parent by that is found next.
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(socket);
}

/// Leaves behind everything of the worker that a process of its own, or a program, must not have. All signals stay
/// blocked: what is meant for the server, as a whole or by its name, is not for the spawner, which goes when its worker
/// goes.
fn prepare(socket: &OwnedFd, baseline: &Baseline) -> io::Result<()> {
    sys::become_subreaper()?;
    leave(socket)?;
    baseline.restore();
    Ok(())
}

/// The same for a process that starts none, and has as many descriptors as its worker.
pub(super) fn prepare_aside(socket: &OwnedFd, baseline: &Baseline) -> io::Result<()> {
    leave(socket)?;
    baseline.restore_scheduling();
    Ok(())
}

fn leave(socket: &OwnedFd) -> io::Result<()> {
    sys::close_all_but(socket.as_fd())?;
    sys::reset_dispositions();
    if sys::has_terminal() {
        // nginx in the foreground. Programs must not have the terminal that it was started on.
        // SAFETY: concerns the calling process only, which leads no group, having just been made.
        unsafe { libc::setsid() };
    }
    // SAFETY: these calls concern the calling process only; the directory is a string that ends with NUL. That one of
    // them fails does no harm: the process leads a group already, or stays in a directory.
    unsafe {
        libc::setpgid(0, 0);
        libc::chdir(c"/".as_ptr());
        // nginx in the background clears its umask; a program must not make files that everybody may write.
        let umask = libc::umask(0o022);
        if umask != 0 {
            libc::umask(umask);
        }
    }
    Ok(())
}

/// Ends the process at once: no handler of the worker runs, no buffer of it is written a second time.
pub(super) fn exit(status: c_int) -> ! {
    // SAFETY: nothing that follows could depend on what is left undone.
    unsafe { libc::_exit(status) }
}
