// SPDX-License-Identifier: Apache-2.0

//! One run of a shared program, as its clients see it.

use std::cell::RefCell;

use crate::channel::store::Ended;
use crate::exec::spawner::ExitStatus;
use crate::session::endpoint::{Ending, HttpStatus};
use crate::ws::close::CloseCode;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// What its clients are told.
    pub ending: Ending,
    /// How the process ended, if it ran.
    pub status: Option<ExitStatus>,
    /// What those are answered who have been waiting for it to start.
    refusal: HttpStatus,
}

/// In the zone the status is a kind in the upper half and a number in the lower.
const EXITED: u32 = 1;
const KILLED: u32 = 2;
const REFUSED: u32 = 3;

impl RunEnd {
    /// The end of a program that ran.
    pub fn of(ending: Ending, status: Option<ExitStatus>) -> Self {
        // Who came while it ended has not missed anything.
        RunEnd { ending, status, refusal: HttpStatus::UNAVAILABLE }
    }

    /// The end of a program that could not be started; `exhausted` if that is worth another try.
    pub fn refused(exhausted: bool) -> Self {
        let status = if exhausted { HttpStatus::UNAVAILABLE } else { HttpStatus::INTERNAL };
        let reason = "the program cannot be started".to_owned();
        RunEnd { ending: Ending { code: CloseCode::INTERNAL, reason }, status: None, refusal: status }
    }

    /// The end of a program that did not start in time.
    pub fn timed_out() -> Self {
        RunEnd { refusal: HttpStatus(504), ..RunEnd::refused(true) }
    }

    /// The process that started it is gone.
    pub fn lost() -> Self {
        let reason = "the program was lost".to_owned();
        RunEnd { ending: Ending { code: CloseCode::INTERNAL, reason }, status: None, refusal: HttpStatus::INTERNAL }
    }

    /// The run that a client has found is over, and nothing of it is kept.
    pub fn missing() -> Self {
        RunEnd { refusal: HttpStatus::NOT_FOUND, ..RunEnd::lost() }
    }

    /// Its channel is gone.
    pub fn deleted() -> Self {
        let reason = "channel deleted".to_owned();
        RunEnd::of(Ending { code: CloseCode::GOING_AWAY, reason }, None)
    }

    /// What is answered to who waits for the start.
    pub fn refusal(&self) -> HttpStatus {
        self.refusal
    }

    /// The end as the other workers are told of it.
    pub fn to_zone(&self) -> Ended {
        let (kind, number) = match self.status {
            Some(ExitStatus::Code(code)) => (EXITED, u32::from(code)),
            Some(ExitStatus::Signal(signal)) => (KILLED, u32::from(signal)),
            None => (REFUSED, u32::from(self.refusal.0)),
        };
        let reason = self.ending.reason.clone().into_bytes();
        Ended { code: u32::from(self.ending.code.number()), status: kind << 16 | number & 0xffff, reason }
    }

    /// The end of a run as another worker has noted it in the zone.
    pub fn from_zone(ended: &Ended) -> Self {
        let number = ended.status & 0xffff;
        let status = match ended.status >> 16 {
            EXITED => Some(ExitStatus::Code(number as u8)),
            KILLED => Some(ExitStatus::Signal(number as u8)),
            _ => None,
        };
        let refusal = match (status, number) {
            (None, 400..=599) => HttpStatus(number as u16),
            _ => HttpStatus::UNAVAILABLE,
        };
        let code = u16::try_from(ended.code).ok().and_then(CloseCode::new).unwrap_or(CloseCode::INTERNAL);
        let reason = String::from_utf8_lossy(&ended.reason).into_owned();
        RunEnd { ending: Ending { code, reason }, status, refusal }
    }
}

/// How far the program is, for one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The program is being started.
    Starting,
    /// The program runs as this process.
    Running(i32),
    /// The program could not be started, or ended before it was known to run; the status to answer.
    Refused(HttpStatus),
    /// The program has ended.
    Ended(RunEnd),
}

/// One run of a shared program, as its clients see it.
#[derive(Debug)]
pub struct Run(RefCell<State>);

impl Default for Run {
    fn default() -> Self {
        Run(RefCell::new(State::Starting))
    }
}

impl Run {
    /// A run that has ended before its clients came.
    pub fn over(end: RunEnd) -> Self {
        Run(RefCell::new(State::Ended(end)))
    }

    /// How far the run is.
    pub fn state(&self) -> State {
        self.0.borrow().clone()
    }

    /// How it ended, if it has run and ended.
    pub fn end(&self) -> Option<RunEnd> {
        match &*self.0.borrow() {
            State::Ended(end) => Some(end.clone()),
            State::Starting | State::Running(_) | State::Refused(_) => None,
        }
    }

    /// The program runs. Returns whether that is news.
    pub fn runs(&self, pid: i32) -> bool {
        let mut state = self.0.borrow_mut();
        let before = std::mem::replace(&mut *state, State::Running(pid));
        before == State::Starting
    }

    /// The program has ended.
    pub fn ended(&self, end: RunEnd) {
        let mut state = self.0.borrow_mut();
        *state = match *state {
            State::Starting if end.status.is_none() => State::Refused(end.refusal),
            _ => State::Ended(end),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_workers_are_told_the_same() {
        let ending = Ending { code: CloseCode::INTERNAL, reason: "exit 3".to_owned() };
        let ends = [
            RunEnd::of(ending.clone(), Some(ExitStatus::Code(3))),
            RunEnd::of(ending, Some(ExitStatus::Signal(9))),
            RunEnd::refused(true),
            RunEnd::refused(false),
            RunEnd::timed_out(),
            RunEnd::lost(),
        ];
        for end in ends {
            assert_eq!(RunEnd::from_zone(&end.to_zone()), end);
        }
    }

    #[test]
    fn who_waits_for_the_start_is_answered_with_a_status() {
        let run = Run::default();
        run.ended(RunEnd::timed_out());
        assert_eq!((run.state(), run.end()), (State::Refused(HttpStatus(504)), None));
        // A program that ran and ended at once was there all the same.
        let run = Run::default();
        let end = RunEnd::of(Ending { code: CloseCode::NORMAL, reason: String::new() }, Some(ExitStatus::Code(0)));
        run.ended(end.clone());
        assert_eq!(run.end(), Some(end));
        let run = Run::default();
        assert!(run.runs(7) && !run.runs(7), "news only once");
        run.ended(RunEnd::lost());
        assert!(matches!(run.state(), State::Ended(_)));
    }
}
