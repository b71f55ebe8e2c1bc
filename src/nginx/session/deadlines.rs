//! What a session waits for, and until when.

use crate::conf::{Endpoint, Settings};
use crate::nginx::template::NginxCompiler;
use crate::nginx::timer::{Timer, now};
use crate::ws::timing::{self, Expiry, Timers};

/// A session that waits for nothing keeps a timer all the same: a worker that is told to go leaves when no timer is left.
const NOTHING: u64 = 3_600_000;

/// How long a client that hung up may wait for a program or a channel that takes nothing, in milliseconds.
const HANGUP: u64 = 2_000;

/// The same for a service, and while octets wait for the client: it may only have closed its sending side, and be slow to
/// read.
const SLOW_HANGUP: u64 = 5_000;

/// The deadlines of a session on one timer of nginx.
pub struct Deadlines {
    timers: Timers,
    /// How long a client that hung up waits for this endpoint, in milliseconds.
    patience: u64,
    hangup: Option<Hangup>,
    /// When the timer is set to fire.
    armed: Option<u64>,
}

/// The client hung up before everything it sent could be passed on.
struct Hangup {
    /// It is given up at this time,
    until: u64,
    /// if nothing has moved beyond this mark.
    mark: u64,
}

impl Deadlines {
    /// For a session that begins now.
    pub fn new(settings: &Settings<NginxCompiler>) -> Self {
        let (endpoint_timeout, patience) = match &settings.endpoint {
            Some(Endpoint::Tcp(_)) => (settings.tcp_send_timeout(), SLOW_HANGUP),
            Some(Endpoint::Exec(_) | Endpoint::ExecDir(_) | Endpoint::Shared(_)) => {
                (settings.exec_send_timeout(), HANGUP)
            }
            Some(Endpoint::Channel(_)) | None => (0, HANGUP),
        };
        let settings = timing::Settings {
            ping_interval: settings.ping_interval(),
            ping_timeout: settings.ping_timeout(),
            idle_timeout: settings.idle_timeout(),
            close_timeout: settings.close_timeout(),
            send_timeout: settings.send_timeout(),
            endpoint_timeout,
        };
        Deadlines { timers: Timers::new(settings, now()), patience, hangup: None, armed: None }
    }

    /// The deadlines of the protocol.
    pub fn timers(&mut self) -> &mut Timers {
        &mut self.timers
    }

    /// The client hung up while the endpoint is full; `mark` is what has moved so far.
    pub fn on_hangup(&mut self, mark: u64, output_waits: bool) {
        let patience = if output_waits { SLOW_HANGUP } else { self.patience };
        self.hangup.get_or_insert(Hangup { until: now() + patience, mark });
    }

    /// Whether a client that hung up is to be given up; `mark` as before.
    pub fn is_abandoned(&mut self, mark: u64) -> bool {
        self.hangup.take_if(|hangup| hangup.until <= now()).is_some_and(|hangup| hangup.mark == mark)
    }

    /// What is due now.
    pub fn expire(&mut self) -> Option<Expiry> {
        self.timers.expire(now())
    }

    /// The timer has fired.
    pub fn fired(&mut self) {
        self.armed = None;
    }

    /// Arms the timer of a session that waits for its endpoint: nothing of its own is due, but a worker that is told to go has
    /// to stay for it.
    pub fn wait(&mut self, timer: &mut Timer) {
        timer.arm(NOTHING);
        self.armed = Some(now() + NOTHING);
    }

    /// Arms the timer for the next deadline. A timer that would fire too early is left alone: it finds out then.
    pub fn arm(&mut self, timer: &mut Timer) {
        let hangup = self.hangup.as_ref().map(|hangup| hangup.until);
        let now = now();
        let next = [self.timers.deadline(), hangup].into_iter().flatten().min().unwrap_or(now + NOTHING);
        if self.armed.is_none_or(|armed| next < armed) {
            timer.disarm();
            timer.arm(next.saturating_sub(now).max(1));
            self.armed = Some(next);
        }
    }
}
