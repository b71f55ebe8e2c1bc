// SPDX-License-Identifier: Apache-2.0

//! Programs that are started ahead of their clients (`websocket_exec_pool`): how many, and when the next one.
//!
//! The pool of one location and worker. One program is started after the other, each when the one before runs, so that neither a client
//! that needs a program of its own has to wait behind all of them, nor the worker does all of it in one go. What a client
//! has taken is replaced a little later, when that client has been served.
//!
//! A program that ends before a client comes is a *setback*, and so is one that cannot be started. One that has been there
//! for a while is replaced soon. One that ends at once will most likely do so again: then the pauses between two attempts
//! grow, and only one program is tried at a time, until one of them has [proved](PROVEN) that it stays.
//!
//! Here is neither a process nor a clock: whoever has them tells what has happened, and asks what is [`next`](Pool::next). Times are
//! milliseconds of some clock.

/// How long a program is there before it counts as one that waits for its client.
pub const PROVEN: u64 = 1_000;

/// How long after a client has taken a program another one is started.
const SETTLED: u64 = 2;

/// The pause after the first setback, and after one of a program that had been there for a while.
const FIRST_PAUSE: u64 = 100;

/// The pause after the second setback in a row; it doubles with each that follows, up to [`LONGEST_PAUSE`].
const SECOND_PAUSE: u64 = 1_000;

/// The longest pause.
const LONGEST_PAUSE: u64 = 60_000;

/// A time without setbacks after which those before are forgotten, although no program was left long enough to prove itself.
const FORGOTTEN: u64 = 5 * LONGEST_PAUSE;

/// The pause where a limit is reached.
const FULL_PAUSE: u64 = 1_000;

/// The least time between two setbacks that are told.
const NEWS: u64 = 1_000;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing, until something happens.
    Nothing,
    /// A program is to be asked for.
    Start,
    /// Nothing before this time.
    At(u64),
}

/// A program has ended before a client came, or could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setback {
    /// It is to be told: not each of many is.
    pub is_news: bool,
    /// How long until the next start.
    pub pause: u64,
}

/// The state of a pool.
#[derive(Debug)]
pub struct Pool {
    /// Programs that are to wait.
    size: usize,
    /// When the program was asked for that does not run yet.
    ///
    /// Invariant: with it and those that wait there are not more than `size`.
    asked: Option<u64>,
    /// Programs that wait.
    waiting: usize,
    /// When the next one may be asked for.
    not_before: u64,
    /// Setbacks in a row.
    setbacks: u32,
    /// When the last one was: programs that were asked for before it are none of the next attempt.
    last_setback: Option<u64>,
    /// When the program was asked for that is watched, after a setback.
    probe: Option<u64>,
    last_news: Option<u64>,
}

impl Pool {
    /// An empty pool for this many programs.
    pub fn new(size: usize) -> Self {
        Pool {
            size,
            asked: None,
            waiting: 0,
            not_before: 0,
            setbacks: 0,
            last_setback: None,
            probe: None,
            last_news: None,
        }
    }

    /// What is to be done now.
    pub fn next(&mut self, now: u64) -> Next {
        if self.asked.is_some() || self.waiting >= self.size {
            return Next::Nothing;
        }
        self.prove(now);
        match self.probe {
            Some(asked) => Next::At(asked + PROVEN),
            None if now < self.not_before => Next::At(self.not_before),
            None => Next::Start,
        }
    }

    /// A program is asked for.
    pub fn asked(&mut self, now: u64) {
        debug_assert!(self.asked.is_none() && self.waiting < self.size, "one after the other, and not too many");
        self.asked = Some(now);
    }

    /// No program may be asked for now: what is left is for clients.
    pub fn full(&mut self, now: u64) {
        self.not_before = self.not_before.max(now + FULL_PAUSE);
    }

    /// The program that was asked for runs, and waits for a client.
    pub fn ready(&mut self) {
        let Some(asked) = self.asked.take() else { return };
        self.waiting += 1;
        if self.setbacks > 0 {
            self.probe = Some(asked);
        }
    }

    /// The program that was asked for does not run.
    pub fn failed(&mut self, now: u64) -> Setback {
        let asked = self.asked.take().unwrap_or(now);
        self.setback(asked, now, false)
    }

    /// A program that was asked for at that time is not there any more, or is of no use, before a client came.
    pub fn lost(&mut self, asked: u64, now: u64) -> Setback {
        self.prove(now);
        self.remove(asked);
        self.setback(asked, now, now >= asked + PROVEN)
    }

    /// A client has taken the program that was asked for at that time.
    pub fn taken(&mut self, asked: u64, now: u64) {
        self.remove(asked);
        self.not_before = self.not_before.max(now + SETTLED);
    }

    /// The program that was asked for at that time goes to make room for clients. That is no setback.
    pub fn withdrawn(&mut self, asked: u64, now: u64) {
        self.remove(asked);
        self.full(now);
    }

    /// No more programs are to be started.
    pub fn close(&mut self) {
        self.size = 0;
    }

    fn remove(&mut self, asked: u64) {
        debug_assert!(self.waiting > 0, "only what waits can go");
        self.waiting = self.waiting.saturating_sub(1);
        // What a client takes before that has proved nothing.
        self.probe.take_if(|probe| *probe == asked);
    }

    /// A program that has been there for long enough ends a row of setbacks, and so does a long time.
    fn prove(&mut self, now: u64) {
        let has_stayed = self.probe.is_some_and(|asked| now >= asked + PROVEN);
        let is_long_ago = self.last_setback.is_some_and(|last| now >= last + FORGOTTEN);
        if has_stayed || is_long_ago {
            self.setbacks = 0;
            self.probe = None;
        }
    }

    fn setback(&mut self, asked: u64, now: u64, had_proved: bool) -> Setback {
        // Programs that were started together end together: that is one setback.
        if self.last_setback.is_none_or(|last| asked > last) {
            self.last_setback = Some(now);
            self.setbacks = if had_proved { 0 } else { self.setbacks.saturating_add(1) };
            let pause = match self.setbacks {
                0 | 1 => FIRST_PAUSE,
                more => SECOND_PAUSE.saturating_mul(1 << (more - 2).min(16)).min(LONGEST_PAUSE),
            };
            self.not_before = self.not_before.max(now + pause);
        }
        let is_news = self.last_news.is_none_or(|last| now >= last + NEWS);
        if is_news {
            self.last_news = Some(now);
        }
        Setback { is_news, pause: self.not_before.saturating_sub(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts what is to be started at `now`, each of which runs at once. How many.
    fn fill(pool: &mut Pool, now: u64) -> usize {
        let mut count = 0;
        while pool.next(now) == Next::Start {
            pool.asked(now);
            assert_eq!(pool.next(now), Next::Nothing, "one after the other");
            pool.ready();
            count += 1;
        }
        count
    }

    #[test]
    fn it_is_filled_one_after_the_other() {
        let mut pool = Pool::new(3);
        assert_eq!(fill(&mut pool, 5), 3);
        assert_eq!(pool.next(1_000_000), Next::Nothing);
        assert_eq!(Pool::new(0).next(0), Next::Nothing);
    }

    #[test]
    fn what_is_taken_is_replaced_a_little_later() {
        let mut pool = Pool::new(2);
        fill(&mut pool, 0);
        pool.taken(0, 10);
        assert_eq!(pool.next(10), Next::At(12));
        pool.taken(0, 11);
        assert_eq!(pool.next(12), Next::At(13));
        assert_eq!(fill(&mut pool, 13), 2);
    }

    #[test]
    fn one_that_was_there_for_a_while_is_replaced_soon() {
        let mut pool = Pool::new(2);
        fill(&mut pool, 0);
        assert_eq!(pool.lost(0, PROVEN), Setback { is_news: true, pause: FIRST_PAUSE });
        assert_eq!(pool.next(PROVEN), Next::At(PROVEN + FIRST_PAUSE));
        assert_eq!(fill(&mut pool, PROVEN + FIRST_PAUSE), 1, "without a probe");
        let later = 10 * PROVEN;
        assert_eq!(pool.lost(PROVEN + FIRST_PAUSE, later).pause, FIRST_PAUSE, "and again");
    }

    #[test]
    fn pauses_grow_while_programs_end_at_once() {
        let mut pool = Pool::new(8);
        assert_eq!(fill(&mut pool, 0), 8);
        let mut told = 0;
        for _ in 0..8 {
            told += usize::from(pool.lost(0, 1).is_news);
        }
        assert_eq!(told, 1, "that they all end is one piece of news");
        let mut now = 1;
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let Next::At(at) = pool.next(now) else { panic!("no pause") };
            pauses.push(at - now);
            now = at;
            assert_eq!(pool.next(now), Next::Start);
            pool.asked(now);
            pool.ready();
            assert_eq!(pool.next(now), Next::At(now + PROVEN), "one at a time is tried");
            pool.lost(now, now + 1);
            now += 1;
        }
        assert_eq!(pauses, [100, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
    }

    #[test]
    fn one_that_stays_ends_the_pauses() {
        let mut pool = Pool::new(4);
        for now in [0, 100, 1_100] {
            assert_eq!(pool.next(now), Next::Start);
            pool.asked(now);
            pool.failed(now);
        }
        let now = 3_100;
        assert_eq!(pool.next(now), Next::Start);
        pool.asked(now);
        pool.ready();
        assert_eq!(pool.next(now + PROVEN - 1), Next::At(now + PROVEN));
        assert_eq!(fill(&mut pool, now + PROVEN), 3);
        assert_eq!(pool.lost(now + PROVEN, now + PROVEN + 1).pause, FIRST_PAUSE, "it begins anew");
    }

    #[test]
    fn where_each_is_taken_at_once_setbacks_are_forgotten() {
        let mut pool = Pool::new(4);
        pool.asked(0);
        pool.failed(0);
        let mut now = FIRST_PAUSE;
        while now < FORGOTTEN {
            assert_eq!(pool.next(now), Next::Start);
            pool.asked(now);
            pool.ready();
            assert_eq!(pool.next(now), Next::At(now + PROVEN));
            pool.taken(now, now + 10);
            now += 1_000;
        }
        assert_eq!(fill(&mut pool, now), 4);
    }

    #[test]
    fn a_limit_is_no_setback() {
        let mut pool = Pool::new(1);
        pool.full(0);
        assert_eq!(pool.next(0), Next::At(FULL_PAUSE));
        assert_eq!(fill(&mut pool, FULL_PAUSE), 1);
        pool.withdrawn(FULL_PAUSE, 2_000);
        assert_eq!(pool.next(2_000), Next::At(2_000 + FULL_PAUSE), "nor is one that has given way");
        assert_eq!(fill(&mut pool, 2_000 + FULL_PAUSE), 1);
        pool.taken(2_000 + FULL_PAUSE, 4_000);
        pool.close();
        assert_eq!(pool.next(10_000), Next::Nothing, "it is closed");
    }

    /// A generator of numbers that look random (xorshift).
    struct Random(u64);

    impl Random {
        fn below(&mut self, most: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % most
        }
    }

    /// Programs as a worker has them, in any order of events: the pool never has too many, asks for no more than it may, and is
    /// full again once programs stay.
    #[test]
    fn any_order_of_events() {
        for seed in 1..200 {
            let mut random = Random(seed);
            let size = random.below(6) as usize;
            let mut pool = Pool::new(size);
            // The times at which those were asked for that wait, and the one that does not run yet.
            let (mut waiting, mut asked) = (Vec::new(), None);
            let (mut now, mut starts, mut setbacks) = (0, 0, 0);
            for _ in 0..2_000 {
                now += [0, 1, 5, 50, 700, 5_000][random.below(6) as usize];
                if pool.next(now) == Next::Start {
                    assert!(asked.is_none());
                    pool.asked(now);
                    asked = Some(now);
                    starts += 1;
                }
                match random.below(4) {
                    0 if asked.is_some() => {
                        pool.ready();
                        waiting.extend(asked.take());
                    }
                    1 if asked.take().is_some() => {
                        pool.failed(now);
                        setbacks += 1;
                    }
                    2 if !waiting.is_empty() => {
                        let at = waiting.swap_remove(random.below(waiting.len() as u64) as usize);
                        pool.lost(at, now);
                        setbacks += 1;
                    }
                    3 if !waiting.is_empty() => pool.taken(waiting.remove(0), now),
                    _ => {}
                }
                assert!(waiting.len() + usize::from(asked.is_some()) <= size);
                assert_eq!(pool.waiting, waiting.len());
            }
            assert!(setbacks <= starts);
            if asked.is_some() {
                pool.ready();
                waiting.extend(asked);
            }
            let end = now + LONGEST_PAUSE + 2 * PROVEN;
            while now < end {
                match pool.next(now) {
                    Next::Start => {
                        pool.asked(now);
                        pool.ready();
                        waiting.push(now);
                    }
                    Next::At(at) => {
                        assert!(at > now, "a time that has come is no time to wait for");
                        now = at;
                    }
                    Next::Nothing => break,
                }
            }
            assert_eq!(waiting.len(), size, "seed {seed}: full in the end");
        }
    }

    /// However many programs are wanted, what ends at once is started seldom.
    #[test]
    fn starts_are_bounded() {
        let mut pool = Pool::new(1_000);
        let (mut now, mut starts, mut news) = (0, 0, 0);
        while now < 600_000 {
            match pool.next(now) {
                Next::Start => {
                    starts += 1;
                    pool.asked(now);
                    pool.ready();
                    now += 1;
                    news += u32::from(pool.lost(now - 1, now).is_news);
                }
                Next::At(at) => now = at,
                Next::Nothing => panic!("nothing more is done"),
            }
        }
        assert!(starts <= 20 && news <= starts, "{starts} starts, {news} told");
    }
}
