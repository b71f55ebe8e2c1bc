// SPDX-License-Identifier: Apache-2.0

//! Events in any order, as octets say.

use std::ops::Range;

use super::*;

/// A number of octets from two of the script: more than what is kept of either direction at the most, and not so many more that there is
/// time for few scripts.
fn many(mut number: impl FnMut() -> usize) -> usize {
    number() << 6 | number()
}

/// Lets things happen as the octets say. Whatever their order is, a program gets nothing but the beginning of the body, a client nothing
/// but the beginning of the output, both of them all of it where nothing failed, and little is kept in between.
///
/// # Panics
///
/// If that is not so.
pub fn run(script: &[u8]) {
    let mut numbers = script.iter().map(|octet| usize::from(*octet));
    let octets = |places: Range<usize>| places.map(|number| (number % 251) as u8);
    let (mut sent, mut written) = (0, 0);
    let mut test = Test::new(b"");
    test.world.is_whole.set(false);
    test.event(|exchange| exchange.started(7));
    let has_length = numbers.next().is_some_and(|number| number % 2 != 0);
    let head = if has_length { "Content-Length: 30000\n\n" } else { HEAD };
    test.world.written.borrow_mut().extend(head.bytes());
    while let Some(event) = numbers.next() {
        if test.end.is_some() {
            break;
        }
        let world = Rc::clone(&test.world);
        let mut number = || numbers.next().unwrap_or_default();
        match event % 10 {
            0 if !world.is_whole.get() => {
                let count = many(&mut number);
                world.sent.borrow_mut().extend(octets(sent..sent + count));
                sent += count;
            }
            1 => world.is_whole.set(true),
            2 if !world.is_ended.get() => {
                let count = many(&mut number);
                world.written.borrow_mut().extend(octets(written..written + count));
                written += count;
            }
            3 => world.is_ended.set(number() % 2 != 0 || world.is_ended.get()),
            4 => {
                world.is_ended.set(true);
                world.status.set(Some(OK));
            }
            5 => world.room.set(many(&mut number)),
            6 => world.is_slow.set(number() % 2 != 0),
            7 => world.input_broken.set(true),
            8 => world.now.set(world.now.get() + world.timer.get()),
            _ => {}
        }
        test.pump();
        assert!(test.world.timer.get() > 0);
        assert!(test.world.in_flight.get() <= SETTINGS.send_limit + 3_000);
    }
    let input = test.world.input.borrow();
    assert!(input.len() <= sent && input.iter().copied().eq(octets(0..input.len())));
    let body = test.world.body.borrow();
    let most = if has_length { written.min(30_000) } else { written };
    assert!(body.len() <= most && body.iter().copied().eq(octets(0..body.len())));
    if test.end == Some(CgiEnd::Finished) && !test.world.is_slow.get() {
        assert!(body.len() == most && test.world.is_complete.get());
    }
    assert!(test.record.bytes_in.get() <= sent as u64 && test.record.bytes_in.get() >= input.len() as u64);
    assert_eq!(test.world.released.get(), u32::from(test.end.is_some()));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_order(script in prop::collection::vec(any::<u8>(), 0..100)) {
            super::run(&script);
        }
    }
}
