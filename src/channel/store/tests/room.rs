//! A full zone.

use super::*;
use crate::channel::zone::cells::cells_for;
use crate::channel::zone::layout::INLINE_MESSAGE;

const LEN: usize = 420_000;

const FOREVER: History = History { length: 0, time: 0 };

/// Data of a message that takes so many cells, its content type included.
fn cells(count: usize) -> Vec<u8> {
    let len = (INLINE_MESSAGE + (count - 1) * 248).saturating_sub(b"text/plain".len());
    assert_eq!(cells_for(len + b"text/plain".len(), INLINE_MESSAGE), count);
    vec![b'x'; len]
}

fn stored(rig: &Rig, id: &str) -> u32 {
    rig.info(id).map_or(0, |info| info.messages)
}

#[test]
fn the_publishing_channels_oldest_go_first() {
    let rig = Rig::new(LEN);
    rig.try_publish("old", &cells(1), FOREVER).unwrap();
    let total = rig.store.usage().unwrap().cells;
    while rig.store.usage().unwrap().free_cells > 0 {
        rig.try_publish("a", &cells(1), FOREVER).unwrap();
    }
    let full = stored(&rig, "a");
    assert_eq!(full, total - 4, "two channels, their group and the other message");
    for _ in 0..10 {
        let published = rig.try_publish("a", &cells(1), FOREVER).unwrap();
        assert_eq!(published.info.messages, full);
        rig.check();
    }
    assert_eq!(stored(&rig, "old"), 1);
    let usage = rig.store.usage().unwrap();
    assert_eq!((usage.evicted, usage.free_cells), (10, 0));
}

#[test]
fn then_the_oldest_of_the_zone() {
    let rig = Rig::new(LEN);
    let mut channels = 0;
    while rig.store.usage().unwrap().free_cells >= 3 {
        for _ in 0..2 {
            rig.try_publish(&channels.to_string(), &cells(1), FOREVER).unwrap();
        }
        channels += 1;
    }
    // Whoever was published to longest ago loses, and no more than is needed.
    let left = |rig: &Rig| (0..6).map(|n| stored(rig, &n.to_string())).collect::<Vec<_>>();
    let free = rig.store.usage().unwrap().free_cells;
    rig.try_publish("new", &cells(4), FOREVER).unwrap();
    // Four cells for the message, one for the channel; two messages and their channel make three.
    assert_eq!((free, left(&rig)), (1, vec![0, 1, 2, 2, 2, 2]));
    rig.check();
    // The new channel has one message, so it loses that first, and then the others go on.
    rig.try_publish("new", &cells(8), FOREVER).unwrap();
    assert_eq!(stored(&rig, "new"), 1);
    assert_eq!(left(&rig), [0, 0, 0, 2, 2, 2]);
    assert_eq!(rig.info("0"), None, "an empty channel that nobody uses goes with its last message");
    rig.check();
}

#[test]
fn but_before_that_whatever_has_expired() {
    let rig = Rig::new(LEN);
    rig.try_publish("oldest", &cells(1), FOREVER).unwrap();
    let mut channels = 0;
    while rig.store.usage().unwrap().free_cells >= 2 {
        rig.try_publish(&channels.to_string(), &cells(1), History { length: 1, time: 5000 }).unwrap();
        channels += 1;
    }
    rig.pass(6000);
    rig.try_publish("new", &cells(2), FOREVER).unwrap();
    assert_eq!(stored(&rig, "oldest"), 1);
    assert_eq!(rig.store.usage().unwrap().evicted, 0);
    rig.check();
}

#[test]
fn a_message_fits_as_long_as_everything_else_can_go() {
    let rig = Rig::new(LEN);
    let total = rig.store.usage().unwrap().cells as usize;
    let one = rig.claim(11);
    rig.subscribe("watched", one, 0);
    for n in 0..2000 {
        rig.publish(&(n % 300).to_string(), &[0; 100]);
    }
    // The channel itself takes one cell; the watched one and their group stay too.
    let most = cells(total - 3);
    let published = rig.try_publish("big", &most, FOREVER).unwrap();
    assert_eq!(rig.read(published.channel, 1).0[0].data(), most);
    rig.check();
    assert_eq!(rig.store.usage().unwrap().messages, 1);
    assert_eq!(rig.info("watched").unwrap().subscribers, 1);
    assert_eq!(rig.try_publish("big", &cells(total), FOREVER), Err(PublishError::TooLarge));
    assert_eq!(rig.store.usage().unwrap().messages, 1, "nothing goes for what can never fit");
    assert_eq!(rig.try_publish("new", &cells(total), FOREVER), Err(PublishError::TooLarge));
    rig.try_publish("big", &most, FOREVER).unwrap();
    rig.check();
}

#[test]
fn unread_news_do_not_hold_up_a_full_zone() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    rig.subscribe("a", one, 3);
    let count = rig.store.usage().unwrap().cells + 50;
    for n in 0..count {
        rig.try_publish("a", &n.to_le_bytes(), History { length: 2, time: 0 }).unwrap();
    }
    rig.check();
    let news = messages(&rig.drain(one), 3);
    let expected: Vec<_> = (52..count).map(|n| (u64::from(n) + 1, n.to_le_bytes().to_vec())).collect();
    assert_eq!(news, expected, "the worker sees by the offsets what it has lost");
    rig.pass(1000);
    rig.store.tend(rig.now(), 1).unwrap();
    assert_eq!(rig.store.usage().unwrap().messages, 2);
    rig.check();
}

#[test]
fn channels_without_messages_make_room() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    let total = rig.store.usage().unwrap().cells;
    for n in 0..total {
        let channel = rig.subscribe(&n.to_string(), one, n).channel;
        if n >= 10 {
            rig.store.unsubscribe(channel, one, None, rig.now()).unwrap();
        }
    }
    assert!(rig.store.usage().unwrap().free_cells < 5);
    rig.publish("new", b"x");
    rig.check();
    for n in 0..10 {
        assert_eq!(rig.info(&n.to_string()).unwrap().subscribers, 1);
    }
    // Nothing but channels with subscribers: there is no room, and nobody loses anything.
    let mut n = 0;
    let error = loop {
        n += 1;
        let subscribed = rig.store.subscribe(key(&format!("more {n}")), one, Token(n), TERMS, rig.now());
        if let Err(error) = subscribed {
            break error;
        }
    };
    assert_eq!(error, SubscribeError::NoRoom);
    assert_eq!(rig.try_publish("newer", b"x", KEEP), Err(PublishError::TooLarge));
    rig.check();
}
