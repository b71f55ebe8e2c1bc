// SPDX-License-Identifier: Apache-2.0

//! What a node tells the engine of its subscribers of a channel: how many they are, and who.
//!
//! It is true for some time only, and told again before half of it is over: a node that dies is gone from all sums soon. Joins are told
//! before they take place, so that whoever publishes then hears of the subscriber.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::turns::ROUND;
use crate::redis::script::check;

/// For how long it is true what the engine is told, in milliseconds.
pub(super) const LIFETIME: u64 = 24_000;

/// After how long the engine is told again of subscribers that it knows of, in milliseconds, when the channel has its turn: that is each
/// second one.
const AGAIN: u64 = 7_500;

/// After how long the engine is told again where that was not possible in two turns, in milliseconds.
const OVERDUE: u64 = 14_000;

const _: () = assert!(AGAIN + ROUND < OVERDUE && OVERDUE < LIFETIME, "there are further tries before it is void");

/// How long somebody is counted who was to come at once and has not, in milliseconds: the worker may be busy.
const PATIENCE: u64 = 1_000;

/// Octets of who is on a channel that are sent in a millisecond: where very many come and go, the engine is told less often.
const RATE: u64 = 100;

/// What the engine was told of a channel, and what is to be told.
#[derive(Debug, Default)]
pub(super) struct Announced {
    /// When the engine was last told.
    time: u64,
    /// Subscribers that it was told of.
    subscribers: u32,
    /// The hash of the text that says who they are; none: nobody, or nothing that the engine still has.
    who: Option<u64>,
    /// The next such text is sent then at the earliest.
    next_who: u64,
    /// Subscribers have come or gone.
    pub changed: bool,
    /// Subscribers that there will be at once: the engine is told before they have come. 0: nobody is expected.
    expected: u32,
    /// Until when they are expected.
    expected_until: u64,
    /// The engine was not yet told of those that are expected.
    news: bool,
}

/// What is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    pub subscribers: u32,
    /// Who they are; `None`: the same as before.
    pub who: Option<Vec<u8>>,
    /// Who they are has changed, but is not to be told before this time.
    pub again_at: Option<u64>,
}

impl Announced {
    /// Nothing was told, and so many subscribers will be there soon.
    pub fn expecting(subscribers: u32, now: u64) -> Self {
        let mut announced = Announced { changed: true, ..Announced::default() };
        announced.expect(subscribers, now);
        announced
    }

    /// So many subscribers will be there soon.
    pub fn expect(&mut self, subscribers: u32, now: u64) {
        (self.expected, self.expected_until, self.news) = (subscribers, now + PATIENCE, true);
    }

    /// The announcements that are expected could not come until now.
    pub fn expect_longer(&mut self, now: u64) {
        self.expected_until = now + PATIENCE;
    }

    /// Whether somebody is expected.
    pub fn is_expecting(&self) -> bool {
        self.expected > 0
    }

    /// Whether the engine has to be told of those that are expected; after that it was.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// The subscribers to tell of where so many are present: those that are expected count until they have come, or time is up.
    pub fn count(&mut self, present: u32, now: u64) -> u32 {
        if present >= self.expected || self.expected_until <= now {
            self.expected = 0;
        }
        present.max(self.expected)
    }

    /// Notes that the engine knows nothing of it any more.
    pub fn forget(&mut self) {
        let Announced { expected, expected_until, .. } = *self;
        *self = Announced { changed: true, expected, expected_until, news: expected > 0, ..Announced::default() };
    }

    /// Notes that the engine has not taken what it was told.
    pub fn refused(&mut self) {
        (self.subscribers, self.who) = (u32::MAX, None);
    }

    /// Notes that the engine does not know who the subscribers are.
    pub fn forget_who(&mut self) {
        self.changed |= self.who.take().is_some();
    }

    /// Whether the engine was told that the subscribers are so many, and believes it.
    pub fn is_of(&self, subscribers: u32, now: u64) -> bool {
        self.subscribers == subscribers && (subscribers == 0 || now < self.time + OVERDUE)
    }

    /// What the engine was told some time ago, and is told again; `None`: not now. It is what was told last, whatever has happened
    /// since and is told soon.
    pub fn again(&self, now: u64) -> Option<check::Announcement> {
        let is_told = (1..u32::MAX).contains(&self.subscribers) && !self.changed && self.expected == 0;
        (is_told && self.time + AGAIN <= now)
            .then(|| check::Announcement { subscribers: self.subscribers, has_who: self.who.is_some() })
    }

    /// When the engine was last told.
    #[cfg(test)]
    pub fn time(&self) -> u64 {
        self.time
    }

    /// Notes that it was told again.
    pub fn told_again(&mut self, now: u64) {
        self.time = now;
    }

    /// What is to be told of so many subscribers, who are those of the text.
    pub fn prepare(&self, subscribers: u32, who: Vec<u8>, now: u64) -> Announcement {
        let is_known = self.who == hash(&who);
        let again_at = (!is_known && subscribers > 0 && now < self.next_who).then_some(self.next_who);
        let who = (!is_known && subscribers > 0 && again_at.is_none()).then_some(who);
        Announcement { subscribers, who, again_at }
    }

    /// Notes that it was told.
    pub fn told(&mut self, announcement: &Announcement, now: u64) {
        (self.time, self.subscribers, self.changed) = (now, announcement.subscribers, false);
        if announcement.subscribers == 0 {
            self.who = None;
        }
        if let Some(who) = &announcement.who {
            self.who = hash(who);
            self.next_who = now + who.len() as u64 / RATE;
        }
    }
}

fn hash(who: &[u8]) -> Option<u64> {
    if who.is_empty() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    who.hash(&mut hasher);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(announced: &mut Announced, subscribers: u32, who: &[u8], now: u64) -> Announcement {
        let announcement = announced.prepare(subscribers, who.to_vec(), now);
        announced.told(&announcement, now);
        announcement
    }

    #[test]
    fn who_is_expected_counts_until_it_has_come_or_time_is_up() {
        let mut announced = Announced::expecting(1, 0);
        assert_eq!((announced.count(0, 0), announced.take_news(), announced.take_news()), (1, true, false));
        assert_eq!((announced.count(0, PATIENCE - 1), announced.is_expecting()), (1, true));
        assert_eq!((announced.count(1, PATIENCE - 1), announced.is_expecting()), (1, false), "it has come");
        assert_eq!(announced.count(0, PATIENCE - 1), 0, "and gone");
        announced.expect(3, 2 * PATIENCE);
        assert_eq!(announced.count(2, 2 * PATIENCE), 3);
        announced.expect_longer(4 * PATIENCE);
        assert_eq!(announced.count(2, 5 * PATIENCE - 1), 3, "it could not come yet");
        assert_eq!((announced.count(2, 5 * PATIENCE), announced.is_expecting()), (2, false), "time is up");
    }

    #[test]
    fn who_is_there_is_told_when_it_changes() {
        let mut announced = Announced::default();
        assert_eq!(tell(&mut announced, 1, b"", 0).who, None);
        assert_eq!(tell(&mut announced, 2, b"anna", 1).who, Some(b"anna".to_vec()));
        assert_eq!(tell(&mut announced, 3, b"anna", 2).who, None);
        assert_eq!(tell(&mut announced, 3, b"", 3).who, Some(Vec::new()));
        assert_eq!(tell(&mut announced, 3, b"anna", 4).who, Some(b"anna".to_vec()));
        assert_eq!(tell(&mut announced, 0, b"", 5).who, None, "the count says it");
        assert_eq!(tell(&mut announced, 1, b"anna", 6).who, Some(b"anna".to_vec()));
        announced.forget_who();
        assert!(announced.changed);
        assert_eq!(tell(&mut announced, 1, b"anna", 7).who, Some(b"anna".to_vec()));
    }

    #[test]
    fn long_texts_are_told_less_often() {
        let mut announced = Announced::default();
        let long = vec![b'x'; 100_000];
        tell(&mut announced, 1, &long, 0);
        assert_eq!(
            tell(&mut announced, 2, b"y", 999),
            Announcement { subscribers: 2, who: None, again_at: Some(1000) }
        );
        assert_eq!(tell(&mut announced, 2, b"y", 1000).who, Some(b"y".to_vec()));
    }

    #[test]
    fn what_is_told_is_true_for_a_time() {
        let mut announced = Announced::default();
        assert!(announced.is_of(0, u64::MAX), "nobody need not be told again");
        tell(&mut announced, 2, b"", 10);
        assert!(announced.is_of(2, 10 + OVERDUE - 1));
        assert!(!announced.is_of(2, 10 + OVERDUE));
        assert!(!announced.is_of(1, 10));
        announced.forget();
        assert!(announced.changed && !announced.is_of(2, 11));
    }

    #[test]
    fn what_was_told_is_told_again_in_time() {
        let mut announced = Announced::default();
        assert_eq!(announced.again(u64::MAX), None, "nobody was told of");
        tell(&mut announced, 2, b"anna", 10);
        let same = check::Announcement { subscribers: 2, has_who: true };
        assert_eq!((announced.again(10 + AGAIN - 1), announced.again(10 + AGAIN)), (None, Some(same)));
        announced.told_again(10 + AGAIN);
        assert_eq!((announced.again(10 + 2 * AGAIN - 1), announced.again(10 + 2 * AGAIN)), (None, Some(same)));
        assert!(announced.is_of(2, 10 + AGAIN + OVERDUE - 1));
        announced.expect(3, 60_000);
        assert_eq!(announced.again(60_000), None, "more is told soon");
        announced.count(3, 60_000);
        announced.changed = true;
        assert_eq!(announced.again(60_000), None, "something else is told soon");
        announced.changed = false;
        announced.refused();
        assert_eq!(announced.again(60_000), None, "the engine does not know how many there are");
        tell(&mut announced, 0, b"", 60_000);
        assert_eq!(announced.again(90_000), None, "nobody is there any more");
    }
}
