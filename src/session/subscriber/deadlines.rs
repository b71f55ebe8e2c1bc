// SPDX-License-Identifier: Apache-2.0

//! What a waiting request waits for besides messages, and until when.

use super::{Delivery, Flow, Host, Response, Subscriber, SubscriberEnd, SubscriberStage};
use crate::session::host::Severity;

/// A request that has nothing to do keeps a timer all the same, and with it a worker that is told to go.
const NOTHING: u64 = 3_600_000;

/// What the time is up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// The client has taken nothing for too long, or not in time after the end.
    GiveUp,
    /// The worker is leaving.
    Drain,
    /// There was no message for too long.
    Idle,
    /// The connection was silent.
    Keepalive,
}

impl<H: Host> Subscriber<H> {
    /// Everything that may come, in the order in which it is looked at.
    fn deadlines(&self) -> [Option<(u64, Due)>; 4] {
        let settings = &self.settings;
        let after = |begin: Option<u64>, time: u64| begin.filter(|_| time != 0).map(|begin| begin.saturating_add(time));
        let stuck = after(self.response.stuck_since(), settings.send_timeout);
        let (give_up, drain, idle, keepalive) = match self.stage {
            SubscriberStage::Waiting { .. } => {
                let has_keepalive = match &self.delivery {
                    Delivery::Streaming(streaming) => streaming.keepalive().is_some(),
                    Delivery::LongPoll | Delivery::Poll | Delivery::FirstPoll => false,
                };
                let silent = self.response.silent_since().filter(|_| has_keepalive);
                let idle = after(Some(self.spoke), settings.idle_timeout);
                (stuck, self.drain, idle, after(silent, settings.ping_interval))
            }
            SubscriberStage::Closing { since } => {
                let moved = self.response.stuck_since().map_or(since, |moved| moved.max(since));
                let until = moved.saturating_add(settings.close_timeout);
                (Some(stuck.map_or(until, |stuck| stuck.min(until))), None, None, None)
            }
            SubscriberStage::Created | SubscriberStage::Starting { .. } | SubscriberStage::Over => {
                (None, None, None, None)
            }
        };
        [
            give_up.map(|at| (at, Due::GiveUp)),
            drain.map(|at| (at, Due::Drain)),
            idle.map(|at| (at, Due::Idle)),
            keepalive.map(|at| (at, Due::Keepalive)),
        ]
    }

    /// Sets the timer for the next of them.
    pub(super) fn arm(&mut self) {
        let now = self.host.now();
        let next = self.deadlines().into_iter().flatten().map(|(at, _)| at).min().unwrap_or(now + NOTHING);
        self.host.set_timer(next.saturating_sub(now).max(1));
    }

    /// The timer fired.
    pub fn on_time(&mut self) -> Flow {
        self.host.take_expired();
        if self.response.stuck_since().is_some() {
            // Whether it is the client that takes nothing, or a rate that keeps it waiting, is known after an attempt.
            self.writable()?;
        }
        let now = self.host.now();
        let due = self.deadlines().into_iter().flatten().find(|(at, _)| *at <= now).map(|(_, due)| due);
        match due {
            Some(Due::GiveUp) => {
                self.host.report(Severity::Info, format_args!("the client accepted nothing in time"));
                return Flow::Break(SubscriberEnd::Lost);
            }
            Some(Due::Drain | Due::Idle) => return self.dismiss(),
            Some(Due::Keepalive) => {
                if let Delivery::Streaming(streaming) = &self.delivery
                    && let Some(content) = streaming.keepalive()
                {
                    self.response.push(content, false);
                    if let Err(lost) = self.response.send() {
                        return Flow::Break(lost.into());
                    }
                }
            }
            None => {}
        }
        self.arm();
        Flow::Continue(())
    }

    /// The worker is told to go: the request ends at `at`.
    pub fn on_drain(&mut self, at: u64) -> Flow {
        self.drain = Some(at);
        self.arm();
        Flow::Continue(())
    }
}
