// SPDX-License-Identifier: Apache-2.0

//! What a waiting request waits for besides messages, and until when.

use std::mem;

use super::{Delivery, Flow, Host, InSystem, Response, Subscriber, SubscriberEnd, SubscriberStage};
use crate::session::host::Severity;
use crate::ws::timing::Look;

/// A request that has nothing to do keeps a timer all the same, and with it a worker that is told to go.
const NOTHING: u64 = 3_600_000;

/// The deadline of what does not come.
const NEVER: u64 = u64::MAX;

/// What the time is up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// The client may have taken nothing for too long.
    Look,
    /// The worker is leaving.
    Drain,
    /// There was no message for too long.
    Idle,
    /// The connection was silent.
    Keepalive,
}

impl<H: Host> Subscriber<H> {
    /// Everything that may come, in the order in which it is looked at; what does not come has [`NEVER`].
    fn deadlines(&self) -> [(u64, Due); 4] {
        let settings = &self.settings;
        let after = |begin: Option<u64>, time: u64| match begin {
            Some(begin) if time != 0 => begin.saturating_add(time),
            _ => NEVER,
        };
        let look = after(self.waits_since(), settings.send_timeout);
        let (look, drain, idle, keepalive) = match self.stage {
            SubscriberStage::Waiting { .. } => {
                let has_keepalive = match &self.delivery {
                    Delivery::Streaming(streaming) => streaming.has_keepalive(),
                    Delivery::LongPoll | Delivery::Poll | Delivery::FirstPoll => false,
                };
                let silent = self.response.silent_since().filter(|_| has_keepalive);
                let idle = after(Some(self.spoke), settings.idle_timeout);
                (look, self.drain.unwrap_or(NEVER), idle, after(silent, settings.ping_interval))
            }
            SubscriberStage::Closing { since } => {
                let waits = self.waits_since().map_or(since, |waits| waits.max(since));
                (look.min(waits.saturating_add(settings.close_timeout)), NEVER, NEVER, NEVER)
            }
            SubscriberStage::Created | SubscriberStage::Starting { .. } | SubscriberStage::Over => {
                (NEVER, NEVER, NEVER, NEVER)
            }
        };
        [(look, Due::Look), (drain, Due::Drain), (idle, Due::Idle), (keepalive, Due::Keepalive)]
    }

    /// Since when the client is not known to have taken anything of what is on its way, here or in the system; `None` if there is
    /// nothing.
    fn waits_since(&self) -> Option<u64> {
        match (self.response.stuck_since(), self.in_system) {
            (Some(moved), _) => Some(moved.max(self.looked)),
            (None, InSystem::Sent | InSystem::Something) => Some(self.looked),
            (None, InSystem::Nothing) => None,
        }
    }

    /// Notes whether something was sent since the client had all.
    fn note_sent(&mut self) {
        let is_sent = self.response.silent_since().is_none_or(|sent| sent > self.looked);
        if self.in_system == InSystem::Nothing && is_sent {
            self.in_system = InSystem::Sent;
            self.looked = self.host.now();
        }
    }

    /// Looks whether the client has taken anything since the last time, or has all there is. The system may have got what it has just
    /// before, so that only the next look can tell.
    fn is_taking(&mut self) -> bool {
        let Look { taken, all } = self.response.look();
        self.looked = self.host.now();
        let had = mem::replace(&mut self.in_system, if all { InSystem::Nothing } else { InSystem::Something });
        taken || (self.response.is_empty() && (all || had == InSystem::Sent))
    }

    /// Sets the timer for the next of them.
    pub(super) fn arm(&mut self) {
        self.note_sent();
        let now = self.host.now();
        let next = self.deadlines().into_iter().map(|(at, _)| at).fold(NEVER, u64::min);
        self.host.set_timer(if next == NEVER { NOTHING } else { next.saturating_sub(now).max(1) });
    }

    /// The timer fired.
    pub fn on_time(&mut self) -> Flow {
        self.host.take_expired();
        if self.response.stuck_since().is_some() {
            // Whether it is the client that takes nothing, or a rate that keeps it waiting, is known after an attempt.
            self.writable()?;
        }
        let now = self.host.now();
        let due = self.deadlines().into_iter().find(|(at, _)| *at <= now).map(|(_, due)| due);
        match due {
            Some(Due::Look) if self.is_taking() => {}
            Some(Due::Look) => {
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
