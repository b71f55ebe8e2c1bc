// SPDX-License-Identifier: Apache-2.0

//! What the program writes, and how it ends.

use super::*;

#[test]
fn a_document() {
    let mut test = Test::started(b"");
    assert!(test.world.watched.get() && test.world.input_ended.get());
    test.writes("Content-Type: text/plain\r\n");
    assert!(test.world.head.borrow().is_none());
    test.writes("\r\nfirst\n");
    assert_eq!(test.body(), "first\n");
    test.writes("last");
    assert_eq!((test.body().as_str(), test.world.is_complete.get()), ("first\nlast", false));
    test.ends(OK);
    assert_eq!(test.end, Some(CgiEnd::Finished));
    assert!(test.world.is_complete.get() && test.log().is_empty());
    assert_eq!((test.world.left.get(), test.world.released.get()), (1, 1));
    assert_eq!(test.record.exec_pid.get(), Some(7));
    assert_eq!(test.record.exec_status.get(), Some(OK));
    assert_eq!(test.record.bytes_out.get(), 10);
    test.exchange.release();
    assert_eq!((test.world.left.get(), test.world.released.get()), (1, 1));
}

#[test]
fn a_program_that_ends_before_it_is_read() {
    let mut test = Test::started(b"");
    test.world.written.borrow_mut().extend(HEAD.bytes().chain("x".repeat(9_000).bytes()));
    test.ends(ExitStatus::Code(3));
    assert_eq!((test.end.clone(), test.body().len()), (Some(CgiEnd::Finished), 9_000));
    assert_eq!(test.record.exec_status.get(), Some(ExitStatus::Code(3)));
}

#[test]
fn the_status_of_a_program_is_waited_for_a_moment() {
    let mut test = Test::started(b"");
    test.writes(&format!("{HEAD}body"));
    test.world.is_ended.set(true);
    test.pump();
    assert_eq!((test.end.clone(), test.body().as_str()), (None, "body"));
    assert_eq!(test.world.timer.get(), LAST_WORD);
    test.fires();
    assert_eq!((test.end, test.world.is_complete.get()), (Some(CgiEnd::Finished), true));
    assert_eq!(test.record.exec_status.get(), None);
}

#[test]
fn what_is_no_response() {
    for (written, text) in [
        ("", "wrote nothing"),
        ("Content-Type: text/plain\n", "no complete header"),
        ("Content-Type: text/plain", "no complete header"),
    ] {
        let mut test = Test::started(b"");
        test.writes(written);
        test.ends(ExitStatus::Signal(11));
        assert_eq!(test.end, Some(CgiEnd::Refused(HttpStatus(502))), "{written}");
        assert!(test.log().contains(text), "{}", test.log());
        assert_eq!(test.record.exec_status.get(), Some(ExitStatus::Signal(11)));
    }
    for written in ["\nbody", "<html>\n\n", "Status: 99\n\n", &"x".repeat(100_000)] {
        let mut test = Test::started(b"");
        test.world.written.borrow_mut().extend(written.as_bytes());
        while test.end.is_none() {
            test.pump();
        }
        assert_eq!(test.end, Some(CgiEnd::Refused(HttpStatus(502))));
        assert!(test.log().contains("the program wrote"), "{}", test.log());
    }
}

#[test]
fn no_header_in_time() {
    let mut test = Test::started(b"");
    assert_eq!(test.world.timer.get(), 60_000);
    test.world.now.set(59_999);
    test.writes("Content-Type: text/plain\n");
    assert_eq!((test.end.clone(), test.world.timer.get()), (None, 1));
    test.fires();
    assert_eq!(test.end, Some(CgiEnd::Refused(HttpStatus(504))));
    // Once it is there, the program may take its time.
    let mut test = Test::started(b"");
    test.writes(HEAD);
    test.world.now.set(10_000_000);
    test.writes("late");
    assert_eq!((test.end.clone(), test.body().as_str()), (None, "late"));
}

#[test]
fn a_body_that_is_shorter_than_announced() {
    let mut test = Test::started(b"");
    test.writes("Content-Length: 5\n\nbody");
    test.ends(OK);
    assert_eq!((test.end.clone(), test.world.is_complete.get()), (Some(CgiEnd::Lost), false));
    assert!(test.log().contains("1 octets less"), "{}", test.log());
}

#[test]
fn a_body_that_is_as_long_as_announced() {
    for (head, body, log) in [
        ("Content-Length: 4", "body", ""),
        ("Content-Length: 4", "body and more", "more"),
        ("Content-Length: 0", "", ""),
    ] {
        let mut test = Test::started(b"");
        test.writes(&format!("{head}\n\n{body}"));
        assert_eq!((test.body().as_str(), test.world.is_complete.get()), (body.get(..4).unwrap_or(body), true));
        assert_eq!(test.end, None);
        test.writes("what nobody reads");
        test.ends(ExitStatus::Signal(9));
        assert_eq!(test.end, Some(CgiEnd::Finished));
        assert_eq!(test.log().contains("more than its Content-Length"), !log.is_empty(), "{}", test.log());
    }
}

#[test]
fn a_response_that_is_cut_short_does_not_look_whole() {
    let mut test = Test::started(b"");
    test.writes(&format!("{HEAD}half of it"));
    test.ends(ExitStatus::Signal(9));
    assert_eq!((test.end.clone(), test.world.is_complete.get()), (Some(CgiEnd::Lost), false));
    assert!(test.log().contains("killed by signal 9"), "{}", test.log());
}

#[test]
fn a_response_without_a_body() {
    let mut test = Test::new(b"");
    test.world.has_body.set(false);
    test.event(|exchange| exchange.started(7));
    test.writes(&format!("{HEAD}body"));
    assert!(test.world.head.borrow().is_some());
    assert_eq!((test.end.clone(), test.world.timer.get()), (None, LAST_WORD));
    test.ends(OK);
    assert_eq!((test.end.clone(), test.body().as_str()), (Some(CgiEnd::Finished), ""));
}

#[test]
fn a_program_that_goes_on_does_not_keep_its_client() {
    for (has_body, head) in [(false, HEAD), (true, "Content-Length: 4\n\nbody"), (true, "Content-Length: 0\n\n")] {
        let mut test = Test::new(b"");
        test.world.has_body.set(has_body);
        test.event(|exchange| exchange.started(7));
        test.writes(head);
        assert_eq!(test.world.is_complete.get(), has_body);
        test.world.now.set(LAST_WORD - 1);
        test.writes("what nobody reads");
        assert_eq!((test.end.clone(), test.world.timer.get()), (None, 1));
        test.fires();
        // It has time to write the rest, and is read as long.
        let world = &test.world;
        assert_eq!((test.end, world.left.get(), world.grace.get()), (Some(CgiEnd::Finished), 1, UNWANTED - LAST_WORD));
    }
    // The response is not complete before.
    let mut test = Test::started(b"");
    test.writes("Content-Length: 5\n\nbody");
    test.world.is_broken.set(true);
    test.pump();
    assert_eq!((test.end, test.world.grace.get()), (Some(CgiEnd::Lost), 0));
}

#[test]
fn a_slow_client_holds_the_program_back() {
    let mut test = Test::started(b"");
    test.world.is_slow.set(true);
    test.world.written.borrow_mut().extend(HEAD.bytes().chain([b'x'; 60_000]));
    test.pump();
    assert!(test.world.paused.get());
    assert!((10_000..14_000).contains(&test.world.in_flight.get()));
    test.pump();
    assert!(test.world.in_flight.get() < 14_000);
    test.world.is_slow.set(false);
    for _ in 0..10 {
        test.pump();
    }
    assert_eq!((test.body().len(), test.world.paused.get()), (60_000, false));
    test.world.stuck.set(Some(5));
    test.pump();
    assert_eq!(test.world.timer.get(), 20_005);
    test.world.takes.set(true);
    test.fires();
    assert_eq!(test.world.timer.get(), 20_000, "it takes what the system has");
    test.world.takes.set(false);
    test.fires();
    assert_eq!(test.end, Some(CgiEnd::Lost));
}

#[test]
fn a_client_that_is_lost() {
    let mut test = Test::started(b"");
    test.writes(HEAD);
    test.world.is_broken.set(true);
    test.writes("x");
    assert_eq!((test.end, test.world.left.get()), (Some(CgiEnd::Lost), 1));
}

#[test]
fn a_local_redirect() {
    let mut test = Test::new(b"half");
    test.world.is_whole.set(false);
    test.world.room.set(2);
    test.event(|exchange| exchange.started(7));
    test.writes("Location: /other?a=b\nX: y\n\nignored");
    assert!(test.world.head.borrow().is_none() && test.world.input_ended.get());
    test.ends(OK);
    // The rest of the body is in the way of whatever comes next.
    assert_eq!(test.end, None);
    test.world.sent.borrow_mut().extend(b"rest");
    test.world.is_whole.set(true);
    test.pump();
    assert_eq!(test.end, Some(CgiEnd::Redirect(b"/other?a=b".to_vec())));
    assert!(test.world.head.borrow().is_none());
}

#[test]
fn a_local_redirect_of_a_program_that_goes_on() {
    let mut test = Test::started(b"");
    test.writes("Location: /other\n\n");
    assert_eq!((test.end.clone(), test.world.timer.get()), (None, UNWANTED));
    test.world.now.set(UNWANTED - 1);
    test.writes("ignored");
    assert_eq!((test.end.clone(), test.world.timer.get()), (None, 1));
    test.fires();
    assert_eq!(test.end, Some(CgiEnd::Redirect(b"/other".to_vec())));
    // The body comes to its end all the same.
    let mut test = Test::new(b"half");
    test.world.is_whole.set(false);
    test.event(|exchange| exchange.started(7));
    test.writes("Location: /other\n\n");
    test.fires();
    assert_eq!((test.end.clone(), test.world.paused.get()), (None, true));
    test.world.is_whole.set(true);
    test.pump();
    assert_eq!(test.end, Some(CgiEnd::Redirect(b"/other".to_vec())));
}

#[test]
fn a_program_that_is_lost() {
    let mut test = Test::new(b"");
    test.event(|exchange| exchange.lost(false));
    assert_eq!(test.end, Some(CgiEnd::TryAgain));
    for (written, end) in
        [("", CgiEnd::Refused(HttpStatus(502))), ("X: y\n", CgiEnd::Refused(HttpStatus(502))), (HEAD, CgiEnd::Lost)]
    {
        let mut test = Test::started(b"");
        test.writes(written);
        test.event(|exchange| exchange.lost(true));
        assert_eq!(test.end, Some(end), "{written}");
    }
}
