//! One run of a shared program, as its clients see it.

use std::cell::RefCell;
use std::rc::Rc;

use super::clients::{again, leave, push};
use super::table::SharedId;
use crate::channel::store::{Ended, Input};
use crate::exec::spawner::ExitStatus;
use crate::nginx::ffi;
use crate::session::endpoint::Ending;
use crate::ws::close::CloseCode;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What its clients are told.
    pub ending: Ending,
    /// How the process ended, if it ran.
    pub status: Option<ExitStatus>,
    /// What those are answered who have been waiting for it to start.
    refusal: isize,
}

/// In the zone the status is a kind in the upper half and a number in the lower.
const EXITED: u32 = 1;
const KILLED: u32 = 2;
const REFUSED: u32 = 3;

impl Outcome {
    /// It ran, and ended.
    pub fn of(ending: Ending, status: Option<ExitStatus>) -> Self {
        // Who came while it ended has not missed anything.
        Outcome { ending, status, refusal: ffi::NGX_HTTP_SERVICE_UNAVAILABLE as isize }
    }

    /// It could not be started; `exhausted` if that is worth another try.
    pub fn refused(exhausted: bool) -> Self {
        let status = if exhausted { ffi::NGX_HTTP_SERVICE_UNAVAILABLE } else { ffi::NGX_HTTP_INTERNAL_SERVER_ERROR };
        let reason = "the program cannot be started".to_owned();
        Outcome { ending: Ending { code: CloseCode::INTERNAL, reason }, status: None, refusal: status as isize }
    }

    /// It did not start in time.
    pub fn timed_out() -> Self {
        Outcome { refusal: ffi::NGX_HTTP_GATEWAY_TIME_OUT as isize, ..Outcome::refused(true) }
    }

    /// The process that started it is gone.
    pub fn lost() -> Self {
        let reason = "the program was lost".to_owned();
        Outcome {
            ending: Ending { code: CloseCode::INTERNAL, reason },
            status: None,
            refusal: ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize,
        }
    }

    /// Its channel is gone.
    pub fn deleted() -> Self {
        let reason = "channel deleted".to_owned();
        Outcome::of(Ending { code: CloseCode::GOING_AWAY, reason }, None)
    }

    /// For the other workers.
    pub fn to_zone(&self) -> Ended {
        let (kind, number) = match self.status {
            Some(ExitStatus::Code(code)) => (EXITED, u32::from(code)),
            Some(ExitStatus::Signal(signal)) => (KILLED, u32::from(signal)),
            None => (REFUSED, self.refusal as u32),
        };
        let reason = self.ending.reason.clone().into_bytes();
        Ended { code: u32::from(self.ending.code.number()), status: kind << 16 | number & 0xffff, reason }
    }

    /// From another worker.
    pub fn from_zone(ended: &Ended) -> Self {
        let number = ended.status & 0xffff;
        let status = match ended.status >> 16 {
            EXITED => Some(ExitStatus::Code(number as u8)),
            KILLED => Some(ExitStatus::Signal(number as u8)),
            _ => None,
        };
        let refusal = match (status, number) {
            (None, 500..=599) => number as isize,
            _ => ffi::NGX_HTTP_SERVICE_UNAVAILABLE as isize,
        };
        let code = u16::try_from(ended.code).ok().and_then(CloseCode::new).unwrap_or(CloseCode::INTERNAL);
        let reason = String::from_utf8_lossy(&ended.reason).into_owned();
        Outcome { ending: Ending { code, reason }, status, refusal }
    }
}

/// How far the program is, for one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is being started.
    Starting,
    /// It runs as this process.
    Running(i32),
    /// It could not be started, or ended before it was known to run; the status to answer.
    Refused(isize),
    /// It has ended.
    Ended(Outcome),
}

/// See the module.
pub struct Run(RefCell<State>);

impl Default for Run {
    fn default() -> Self {
        Run(RefCell::new(State::Starting))
    }
}

impl Run {
    /// It runs. Whether that is news.
    pub fn runs(&self, pid: i32) -> bool {
        let mut state = self.0.borrow_mut();
        let before = std::mem::replace(&mut *state, State::Running(pid));
        before == State::Starting
    }

    /// It has ended.
    pub fn ended(&self, outcome: Outcome) {
        let mut state = self.0.borrow_mut();
        *state = match *state {
            State::Starting if outcome.status.is_none() => State::Refused(outcome.refusal),
            _ => State::Ended(outcome),
        };
    }
}

/// What became of a message for the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It will be read, if the program reads.
    Taken,
    /// There is no room; the client is woken when there is.
    Full,
    /// It never fits.
    TooLarge,
}

/// One client of a run. It leaves when this is dropped.
pub struct Membership {
    id: SharedId,
    run: Rc<Run>,
    listener: usize,
}

impl Membership {
    pub(super) fn new(id: SharedId, run: Rc<Run>, listener: usize) -> Self {
        Membership { id, run, listener }
    }

    /// How far the program is.
    pub fn state(&self) -> State {
        self.run.0.borrow().clone()
    }

    /// How the program ended, if it has.
    pub fn outcome(&self) -> Option<Outcome> {
        match &*self.run.0.borrow() {
            State::Ended(outcome) => Some(outcome.clone()),
            State::Starting | State::Running(_) | State::Refused(_) => None,
        }
    }

    /// The client looks again a little later.
    pub fn again(&self) {
        again(self.id, self.listener);
    }

    /// Gives the program a message.
    pub fn push(&self, message: &Input) -> Pushed {
        push(self.id, self.listener, message, None)
    }

    /// Gives the program a message, as long as the zone has room, whatever waits for the program already.
    pub fn push_all(&self, message: &Input) -> Pushed {
        push(self.id, self.listener, message, Some(u64::MAX))
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        leave(self.id, self.listener);
    }
}
