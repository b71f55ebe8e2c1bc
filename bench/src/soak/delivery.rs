// SPDX-License-Identifier: Apache-2.0

//! What the probe has published, and whether each of its subscribers has had all of it, in order and once.

use std::collections::BTreeMap;
use std::time::Instant;

/// Octets in front of the number of a message; the rest is filled with spaces.
const MARK: &str = "probe ";
/// Failures that are told in full.
const TOLD: usize = 20;

#[derive(Clone, Copy)]
struct Publication {
    at: Instant,
    /// The server has said that it has it. Where it has not, the message may come or not.
    is_certain: bool,
}

/// The books of the probe.
pub struct Delivery {
    publications: BTreeMap<u64, Publication>,
    next: u64,
    /// The number that each subscriber has had last.
    last: Vec<Option<u64>>,
    /// Milliseconds from publications to deliveries, since they were taken last.
    latencies: Vec<f64>,
    /// Deliveries.
    pub delivered: u64,
    /// Messages that were lost, repeated, or came out of order.
    pub failures: u64,
    /// The first of them.
    pub told: Vec<String>,
}

impl Delivery {
    /// With so many subscribers.
    pub fn new(subscribers: usize) -> Self {
        Self {
            publications: BTreeMap::new(),
            next: 1,
            last: vec![None; subscribers],
            latencies: Vec::new(),
            delivered: 0,
            failures: 0,
            told: Vec::new(),
        }
    }

    /// The next message to be published, and its number.
    pub fn publish(&mut self, now: Instant) -> (u64, Vec<u8>) {
        let number = self.next;
        self.next += 1;
        self.publications.insert(number, Publication { at: now, is_certain: false });
        // What every subscriber has had is not needed any more.
        if let Some(Some(least)) = self.last.iter().min() {
            self.publications = self.publications.split_off(least);
        }
        (number, format!("{MARK}{number}").into_bytes())
    }

    /// The server has taken a message.
    pub fn accepted(&mut self, number: u64) {
        if let Some(publication) = self.publications.get_mut(&number) {
            publication.is_certain = true;
        }
    }

    fn fail(&mut self, what: String) {
        self.failures += 1;
        if self.told.len() < TOLD {
            self.told.push(what);
        }
    }

    fn certain_between(&self, after: u64, before: u64) -> Vec<u64> {
        let between = self.publications.range(after + 1..before.max(after + 1));
        between.filter(|(_, publication)| publication.is_certain).map(|(&number, _)| number).collect()
    }

    /// A subscriber has had a message.
    pub fn received(&mut self, subscriber: usize, message: &[u8], now: Instant) {
        let number = str::from_utf8(message).ok().and_then(|text| text.trim_end().strip_prefix(MARK)?.parse().ok());
        let Some(number) = number else {
            self.fail(format!("subscriber {subscriber}: {:?} was never published", String::from_utf8_lossy(message)));
            return;
        };
        if let Some(last) = self.last[subscriber] {
            if number <= last {
                self.fail(format!("subscriber {subscriber}: {number} comes after {last}"));
                return;
            }
            for lost in self.certain_between(last, number) {
                self.fail(format!("subscriber {subscriber}: {lost} did not come, but {number} did"));
            }
        }
        self.last[subscriber] = Some(number);
        self.delivered += 1;
        if let Some(publication) = self.publications.get(&number) {
            self.latencies.push((now - publication.at).as_secs_f64() * 1000.0);
        }
    }

    /// Every subscriber has had everything that is certain.
    pub fn is_complete(&self) -> bool {
        self.last.iter().all(|last| last.is_some_and(|last| self.certain_between(last, self.next).is_empty()))
    }

    /// Nothing more will come: what is missing is lost.
    pub fn end(&mut self) {
        for subscriber in 0..self.last.len() {
            let Some(last) = self.last[subscriber] else {
                self.fail(format!("subscriber {subscriber}: nothing came"));
                continue;
            };
            for lost in self.certain_between(last, self.next) {
                self.fail(format!("subscriber {subscriber}: {lost} never came"));
            }
        }
    }

    /// The latencies since the last call, sorted.
    pub fn take_latencies(&mut self) -> Vec<f64> {
        let mut latencies = std::mem::take(&mut self.latencies);
        latencies.sort_by(f64::total_cmp);
        latencies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(count: u64) -> Delivery {
        let mut delivery = Delivery::new(2);
        for number in 1..=count {
            assert_eq!(delivery.publish(Instant::now()).0, number);
            delivery.accepted(number);
        }
        delivery
    }

    fn receive(delivery: &mut Delivery, subscriber: usize, numbers: &[u64]) {
        for number in numbers {
            delivery.received(subscriber, format!("probe {number}").as_bytes(), Instant::now());
        }
    }

    #[test]
    fn what_comes_in_order_and_once_is_right() {
        let mut delivery = published(4);
        receive(&mut delivery, 0, &[1, 2, 3, 4]);
        assert!(!delivery.is_complete());
        receive(&mut delivery, 1, &[2, 3, 4]);
        assert!(delivery.is_complete(), "the first one that comes is where a subscriber begins");
        delivery.end();
        assert_eq!((delivery.failures, delivery.delivered), (0, 7));
        assert_eq!(delivery.take_latencies().len(), 7);
    }

    #[test]
    fn losses_repetitions_and_silence_are_failures() {
        for (numbers, failures) in [(&[1, 3, 4][..], 1), (&[1, 2, 2, 3, 4], 1), (&[1, 2], 2), (&[], 1), (&[1, 9], 3)] {
            let mut delivery = published(4);
            receive(&mut delivery, 0, &[1, 2, 3, 4]);
            receive(&mut delivery, 1, numbers);
            delivery.end();
            assert_eq!(delivery.failures, failures, "{numbers:?}: {:?}", delivery.told);
        }
        let mut delivery = published(1);
        delivery.received(0, b"other", Instant::now());
        assert_eq!(delivery.failures, 1);
    }

    #[test]
    fn a_publication_that_was_not_answered_may_come_or_not() {
        let mut delivery = published(1);
        delivery.publish(Instant::now());
        receive(&mut delivery, 0, &[1, 2]);
        receive(&mut delivery, 1, &[1]);
        delivery.end();
        assert_eq!(delivery.failures, 0);
    }
}
