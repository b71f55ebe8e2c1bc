// SPDX-License-Identifier: Apache-2.0

//! What the client sends.

use super::*;

#[test]
fn the_header_is_waited_for_from_the_end_of_the_body_on() {
    let mut test = Test::new(b"first");
    test.world.is_whole.set(false);
    test.event(|exchange| exchange.started(7));
    // The program waits for a client that is slow.
    for now in [59_000, 200_000, 1_000_000] {
        test.world.now.set(now);
        test.world.sent.borrow_mut().extend(b"piece");
        test.pump();
        assert_eq!(test.end, None);
        assert!(test.world.timer.get() > 60_000);
    }
    test.world.is_whole.set(true);
    test.world.now.set(1_010_000);
    test.pump();
    assert_eq!(test.world.timer.get(), 50_000);
    test.fires();
    assert_eq!(test.end, Some(CgiEnd::Refused(HttpStatus(504))));
    // A program that does not read the body waits for nothing.
    let mut test = Test::new(b"first");
    test.world.is_whole.set(false);
    test.event(|exchange| exchange.started(7));
    test.world.input_broken.set(true);
    test.world.now.set(59_000);
    test.world.sent.borrow_mut().extend(b"piece");
    test.pump();
    assert_eq!((test.end.clone(), test.world.timer.get()), (None, 1_000));
    test.fires();
    assert_eq!(test.end, Some(CgiEnd::Refused(HttpStatus(504))));
    // Nor does one that leaves what it was given unread.
    let mut test = Test::new(&[1; 50_000]);
    test.world.room.set(5_000);
    test.exchange.settings.input_timeout = 0;
    test.event(|exchange| exchange.started(7));
    assert_eq!(test.world.timer.get(), 60_000);
}

#[test]
fn the_body_of_a_request() {
    let body: Vec<u8> = (0..25_000_u32).map(|number| number as u8).collect();
    let mut test = Test::new(&body[..9_000]);
    test.world.is_whole.set(false);
    assert!(test.exchange.is_held_back());
    test.event(|exchange| exchange.started(7));
    assert!(!test.exchange.is_held_back());
    assert_eq!(*test.world.input.borrow(), body[..9_000]);
    assert!(!test.world.input_ended.get());
    test.world.sent.borrow_mut().extend(&body[9_000..]);
    test.world.is_whole.set(true);
    test.pump();
    assert_eq!(*test.world.input.borrow(), body);
    assert!(test.world.input_ended.get() && test.world.watched.get());
    assert_eq!(test.record.bytes_in.get(), 25_000);
}

#[test]
fn a_program_that_does_not_read_holds_the_client_back() {
    let mut test = Test::new(&[1; 50_000]);
    test.world.room.set(5_000);
    test.event(|exchange| exchange.started(7));
    assert_eq!(test.world.input.borrow().len(), 5_000);
    assert_eq!(test.world.sent.borrow().len(), 35_000);
    assert!(test.exchange.is_held_back());
    test.world.room.set(10_000);
    test.pump();
    assert_eq!(test.world.sent.borrow().len(), 25_000);
    // It is given up in the end.
    assert_eq!(test.world.timer.get(), 30_000);
    test.fires();
    assert_eq!(test.end, Some(CgiEnd::Refused(HttpStatus(504))));
    // One that answers without reading everything does as it likes.
    let mut test = Test::new(&[1; 50_000]);
    test.world.room.set(5_000);
    test.event(|exchange| exchange.started(7));
    test.writes(HEAD);
    test.world.now.set(1_000_000);
    test.writes("body");
    assert_eq!(test.end, None);
    test.ends(OK);
    assert_eq!(test.end, Some(CgiEnd::Finished));
}

#[test]
fn what_a_program_does_not_want_is_received_all_the_same() {
    let mut test = Test::new(&[1; 50_000]);
    test.world.room.set(5_000);
    test.event(|exchange| exchange.started(7));
    test.world.input_broken.set(true);
    test.pump();
    assert!(test.world.sent.borrow().is_empty() && test.world.watched.get());
    assert!(test.exchange.unwanted.len() < 2_000);
}

#[test]
fn many_pieces_take_several_turns() {
    let mut test = Test::started(&[1; 100_000]);
    assert_eq!((test.world.turns.get(), test.world.sent.borrow().len()), (1, 36_000));
    test.pump();
    assert!(test.world.sent.borrow().is_empty());
    test.world.written.borrow_mut().extend(HEAD.bytes().chain([b'x'; 40_000]));
    test.pump();
    assert_eq!(test.world.turns.get(), 2);
}

#[test]
fn a_body_that_cannot_be_received() {
    for status in [400, 408, 413] {
        let mut test = Test::new(b"half");
        test.world.is_whole.set(false);
        test.event(|exchange| exchange.started(7));
        test.world.refusal.set(Some(status));
        test.pump();
        assert_eq!(test.end, Some(CgiEnd::Refused(HttpStatus(status))));
        let mut test = Test::new(b"half");
        test.world.is_whole.set(false);
        test.event(|exchange| exchange.started(7));
        test.writes(HEAD);
        test.world.refusal.set(Some(status));
        test.pump();
        assert_eq!(test.end, Some(CgiEnd::Lost));
    }
}
