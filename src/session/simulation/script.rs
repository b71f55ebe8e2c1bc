// SPDX-License-Identifier: Apache-2.0

//! A simulated session driven by a string of octets.

use super::*;
use crate::session::endpoint::{HttpStatus, Produced, Started};
use crate::session::{Flow, Session, SessionEnd, Settings};
use crate::ws::connection::Limits;
use crate::ws::frame::MessageKind;
use crate::ws::timing;

/// Reads numbers off a string of octets; zeroes follow it.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A length, small ones more often than others.
    fn length(&mut self) -> usize {
        match self.next() {
            small @ 0..=199 => usize::from(small),
            large => (usize::from(large) - 199) * LONGEST / 56,
        }
    }

    /// A time in milliseconds.
    fn time(&mut self) -> u64 {
        match self.next() {
            short @ 0..=99 => u64::from(short),
            long => (u64::from(long) - 99) * 500,
        }
    }

    /// Octets a second; half of the sessions have no limit.
    fn rate(&mut self) -> u64 {
        match self.next() {
            0..=127 => 0,
            some => (u64::from(some) - 127) * 1_000,
        }
    }

    fn message(&mut self) -> Message {
        let kind = if self.next() & 1 == 0 { MessageKind::Text } else { MessageKind::Binary };
        let (length, letter) = (self.length(), b'a' + self.next() % 26);
        (kind, vec![letter; length])
    }
}

/// Runs a session as the octets say.
pub fn run(script: &[u8]) {
    let mut script = Script(script);
    let flags = script.next();
    let timing = timing::Settings {
        ping_interval: script.time(),
        ping_timeout: script.time(),
        idle_timeout: script.time(),
        close_timeout: script.time().max(1),
        send_timeout: script.time(),
        endpoint_timeout: script.time(),
    };
    let limits = Limits {
        message: if flags & 1 == 0 { 0 } else { 2_000 },
        fragment_size: if flags & 2 == 0 { 0 } else { 100 },
        ..Limits::default()
    };
    let settings = Settings {
        limits,
        deflate: None,
        timing,
        patience: crate::session::HANGUP,
        send_limit: 1 + script.length() * 8,
        rates: Rates { upload: script.rate(), download: script.rate() },
    };
    let mut simulation = Simulation::new(&Setup {
        settings,
        is_tls: flags & 4 != 0,
        head: if flags & 8 == 0 { 0 } else { 100 },
        room: script.length() * 4,
        capacity: 1 + script.length() * 4,
        is_in_turn: flags & 16 != 0,
        leaves_program: flags & 32 != 0,
        is_recorded: script.next() & 1 != 0,
    });
    if flags & 64 != 0 {
        simulation.world.0.borrow_mut().late_drain = Some(1_000 + script.time());
    }
    if flags & 128 == 0 {
        simulation.start(Started::Yes);
        simulation.turn(1);
    }
    while !script.0.is_empty() && simulation.end.is_none() {
        step(&mut simulation, &mut script);
    }
    simulation.conclude();
}

/// One thing happens.
fn step(simulation: &mut Simulation, script: &mut Script<'_>) {
    let action = script.next();
    match action {
        0..=24 => {
            let (kind, payload) = script.message();
            simulation.say_data(kind, &payload, action != 0);
        }
        25..=34 => {
            let length = script.length().min(125);
            simulation.say(if action < 33 { 0x89 } else { 0x8a }, &vec![b'p'; length]);
        }
        35..=38 => simulation.say_close(),
        39..=40 => simulation.say_nonsense(),
        41..=42 => simulation.hang_up(),
        43 => {
            simulation.world.0.borrow_mut().reset();
        }
        44..=79 => {
            let most = script.length();
            simulation.world.0.borrow_mut().arrive(most);
        }
        80..=99 => {
            let most = script.length() * 4;
            simulation.world.0.borrow_mut().take(most);
        }
        100..=104 => {
            let more = script.length();
            simulation.world.0.borrow_mut().make_room(more);
        }
        105..=124 => {
            let message = script.message();
            simulation.answer(match action % 3 {
                0 => Say::Message(message),
                1 => Say::Pieces(message),
                _ if message.1.is_empty() => Say::Message(message),
                _ => Say::Read(message),
            });
        }
        125..=128 => simulation.finish(match action {
            125 => Produced::Silent(normal()),
            126 => Produced::Leaving,
            _ => Produced::Ended(normal()),
        }),
        129..=148 => {
            let count = script.length();
            let mut other = simulation.other.borrow_mut();
            other.takes += count;
            other.event = true;
        }
        149..=150 => simulation.refuse_next(),
        151..=210 => {
            simulation.turn(action);
        }
        211..=216 => simulation.event(Session::pump),
        217..=232 => simulation.pass(script.time()),
        233..=234 => {
            let at = simulation.world.get().now + script.time();
            simulation.event(|session| session.drain(at));
        }
        235 => simulation.start(if script.next() & 1 == 0 { Started::Yes } else { Started::No(HttpStatus(502)) }),
        236..=237 => simulation.start(Started::Yes),
        238 => simulation.event(|session| session.endpoint_lost("the endpoint is gone")),
        239 => {
            // nginx frees the request: the worker is killed, or its time is up.
            simulation.event(|session| {
                session.farewell();
                Flow::Break(SessionEnd::Dropped)
            });
        }
        240 => {
            // nginx gives the request to somebody else.
            simulation.event(|_| Flow::Break(SessionEnd::Dropped));
        }
        241 => simulation.world.0.borrow_mut().refuses_watch = true,
        242 => simulation.world.0.borrow_mut().accept_fails = true,
        243..=246 => simulation.program_ends(),
        247..=255 => {
            let message = script.message();
            simulation.send_directly(message);
        }
    }
}
