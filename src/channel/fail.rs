// SPDX-License-Identifier: Apache-2.0

//! Fail points: in tests, every write to a zone may be the last instruction of the process that makes it.
//!
//! The write itself is not made. In anything but the tests of this crate a fail point is nothing at all.

/// A write is about to be made.
#[cfg(not(test))]
#[inline(always)]
pub fn point() {}

#[cfg(test)]
pub use armed::{Hit, arm, disarm, point, stopped};

#[cfg(test)]
mod armed {
    use std::cell::Cell;

    /// What happens at the armed fail point.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Hit {
        /// The operation is unwound: nothing of it runs on, the lock is given back by whoever finds it.
        Unwind,
        /// The process is killed with SIGKILL.
        #[cfg(not(miri))]
        Kill,
    }

    /// What an unwound operation carries.
    #[derive(Debug)]
    pub struct Stopped;

    thread_local! {
        static ARMED: Cell<Option<(u64, Hit)>> = const { Cell::new(None) };
    }

    /// The `after`th write from now on is not made.
    pub fn arm(after: u64, hit: Hit) {
        ARMED.set(Some((after, hit)));
    }

    /// All writes are made again. Whether the armed one was not reached.
    pub fn disarm() -> bool {
        ARMED.take().is_some()
    }

    /// A write is about to be made.
    pub fn point() {
        match ARMED.get() {
            None => {}
            Some((0, hit)) => {
                ARMED.set(None);
                match hit {
                    Hit::Unwind => std::panic::resume_unwind(Box::new(Stopped)),
                    #[cfg(not(miri))]
                    Hit::Kill => kill(),
                }
            }
            Some((left, hit)) => ARMED.set(Some((left - 1, hit))),
        }
    }

    #[cfg(not(miri))]
    #[allow(unsafe_code)]
    fn kill() {
        // SAFETY: both calls have no memory arguments.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }

    /// Runs an operation up to the armed fail point. Whether it was stopped there.
    pub fn stopped(operation: impl FnOnce()) -> bool {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(operation)) {
            Ok(()) => false,
            Err(payload) if payload.is::<Stopped>() => true,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }
}
