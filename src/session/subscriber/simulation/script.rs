// SPDX-License-Identifier: Apache-2.0

//! A simulated subscriber driven by a string of octets.

use super::{Setup, Simulation};
use crate::channel::fanout::OnGap;
use crate::channel::streaming::Streaming;
use crate::exec::spawner::ExitStatus;
use crate::session::endpoint::Ending;
use crate::session::shared::RunEnd;
use crate::session::subscriber::{Delivery, Flow, RunPart, Settings, Subscriber, SubscriberEnd};
use crate::ws::close::CloseCode;

/// Runs a subscriber as the octets say.
pub fn run(script: &[u8]) {
    let mut octets = script.iter().copied();
    let mut next = || octets.next().unwrap_or(0);
    let flags = next();
    let kind = next();
    let run = [RunPart::None, RunPart::Begins, RunPart::Follows][usize::from(kind / 8) % 3];
    let kind = kind % 8;
    let delivery = match kind {
        0 | 7 => Delivery::LongPoll,
        1 => Delivery::Poll,
        2 => Delivery::FirstPoll,
        3 => Delivery::Streaming(Streaming::EventSource(None)),
        4 => Delivery::Streaming(Streaming::Multipart("xyz".into())),
        5 => Delivery::Streaming(Streaming::Chunked),
        _ => Delivery::Streaming(Streaming::Raw(b"\n"[..].into())),
    };
    let mut time = || u64::from(next()) * 100;
    let settings = Settings {
        send_timeout: time(),
        idle_timeout: time(),
        ping_interval: time(),
        close_timeout: time(),
        send_limit: 1 + (time() as usize) / 10,
        begins_with_newest: flags & 1 != 0,
        several: (kind == 7).then(|| Streaming::Raw(b"\n"[..].into())),
        run,
    };
    let room = next();
    let history = 1 + u32::from(next()) / 4;
    let otherwise = if flags & 2 != 0 { OnGap::Close } else { OnGap::Skip };
    let (room, shares) = (usize::from(room) * 4, flags & 4 != 0);
    let mut simulation = Simulation::new(Setup { delivery, settings, history, room, shares, otherwise });
    if flags & 8 != 0 {
        simulation.world.late_drain.set(Some(1_000 + u64::from(next())));
    }
    simulation.world.wire.borrow_mut().wants_head_only = flags & 0xf0 == 0xf0 && simulation.status().is_none();
    while simulation.end.is_none()
        && let Some(action) = octets.next()
    {
        let mut next = || octets.next().unwrap_or(0);
        match action {
            // The zone of the simulation is small.
            0..=69 if simulation.published < 2_000 => simulation.publish(),
            0..=109 => {
                simulation.turn();
            }
            110..=149 => simulation.take(usize::from(next())),
            150..=189 => {
                for _ in 0..action - 149 {
                    simulation.turn();
                }
            }
            190..=209 => simulation.pass(u64::from(next()) * 50),
            210..=219 => simulation.event(Subscriber::pump),
            220..=224 => simulation.program(|run| {
                run.runs(7);
            }),
            225..=228 => {
                let ending = Ending { code: CloseCode::NORMAL, reason: String::new() };
                let status = Some(ExitStatus::Code(0));
                simulation.program(|run| run.ended(RunEnd::of(ending, status)));
            }
            229..=230 => simulation.program(|run| run.ended(RunEnd::refused(action == 229))),
            231..=234 => {
                let at = simulation.world.now.get() + u64::from(next()) * 10;
                simulation.event(|subscriber| subscriber.on_drain(at));
            }
            235 => simulation.world.wire.borrow_mut().reset = true,
            236 => simulation.event(Subscriber::terminate),
            237 => simulation.event(|_| Flow::Break(SubscriberEnd::Lost)),
            238..=240 => {
                let deleted = simulation.world.store.log().delete(super::key(), simulation.world.time());
                assert!(deleted.is_ok());
                // What is published then is another life of the channel, which this subscriber is not on.
                simulation.settle();
                break;
            }
            241..=255 => simulation.event(Subscriber::writable),
        }
    }
    simulation.conclude();
}
