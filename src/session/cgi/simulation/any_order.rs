// SPDX-License-Identifier: Apache-2.0

//! Events in any order.

use proptest::prelude::*;

use super::*;

/// What happens next.
#[derive(Debug, Clone)]
enum Event {
    Send(u16),
    SendAll,
    Write(u16),
    End(bool),
    Exit,
    Room(u16),
    Slow(bool),
    Break,
    Time,
    Turn,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any::<u16>().prop_map(Event::Send),
        Just(Event::SendAll),
        any::<u16>().prop_map(Event::Write),
        any::<bool>().prop_map(Event::End),
        Just(Event::Exit),
        any::<u16>().prop_map(Event::Room),
        any::<bool>().prop_map(Event::Slow),
        Just(Event::Break),
        Just(Event::Time),
        Just(Event::Turn),
    ]
}

proptest! {
    /// Whatever the order of events, a program gets nothing but the beginning of the body, a client nothing but the beginning of the
    /// output, both of them all of it where nothing failed, and little is kept in between.
    #[test]
    fn any_order(events in prop::collection::vec(event(), 0..40), has_length: bool) {
        let octets = |count: usize| (0..count).map(|number| (number % 251) as u8);
        let (mut sent, mut written) = (0, 0);
        let mut test = Test::new(b"");
        test.world.is_whole.set(false);
        test.event(|exchange| exchange.started(7));
        let head = if has_length { "Content-Length: 30000\n\n" } else { HEAD };
        test.world.written.borrow_mut().extend(head.bytes());
        for event in events {
            if test.end.is_some() {
                break;
            }
            let world = Rc::clone(&test.world);
            match event {
                Event::Send(count) if !world.is_whole.get() => {
                    let count = usize::from(count);
                    world.sent.borrow_mut().extend(octets(sent + count).skip(sent));
                    sent += count;
                }
                Event::SendAll => world.is_whole.set(true),
                Event::Write(count) if !world.is_ended.get() => {
                    let count = usize::from(count);
                    world.written.borrow_mut().extend(octets(written + count).skip(written));
                    written += count;
                }
                Event::End(ended) => world.is_ended.set(ended || world.is_ended.get()),
                Event::Exit => {
                    world.is_ended.set(true);
                    world.status.set(Some(OK));
                }
                Event::Room(room) => world.room.set(usize::from(room)),
                Event::Slow(slow) => world.is_slow.set(slow),
                Event::Break => world.input_broken.set(true),
                Event::Time => world.now.set(world.now.get() + world.timer.get()),
                Event::Turn | Event::Send(_) | Event::Write(_) => {}
            }
            test.pump();
            prop_assert!(test.world.timer.get() > 0);
            prop_assert!(test.world.in_flight.get() <= SETTINGS.send_limit + 3_000);
        }
        let input = test.world.input.borrow();
        prop_assert!(input.len() <= sent && input.iter().copied().eq(octets(input.len())));
        let body = test.world.body.borrow();
        let most = if has_length { written.min(30_000) } else { written };
        prop_assert!(body.len() <= most && body.iter().copied().eq(octets(body.len())));
        if test.end == Some(CgiEnd::Finished) && !test.world.is_slow.get() {
            prop_assert!(body.len() == most && test.world.is_complete.get());
        }
        prop_assert_eq!(test.world.released.get(), u32::from(test.end.is_some()));
    }
}
