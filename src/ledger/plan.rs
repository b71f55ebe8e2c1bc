// SPDX-License-Identifier: Apache-2.0

//! Which location of a new configuration gets which entry of the ledger.
//!
//! A location is the same as one of the configuration before when its server and its name are the same. Where several
//! servers have one name, their addresses tell them apart; a server that has changed its addresses is still the same when
//! there is no other one that it could be.

use std::collections::{BTreeSet, HashMap};

/// What a location is known by, as numbers that are not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// Of its server's name and addresses, its name, and its place among those for which all that is the same.
    pub full: u64,
    /// Of all that without the addresses.
    pub short: u64,
}

/// An entry that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present {
    /// Its place in the table.
    pub place: usize,
    /// What the entry is known by.
    pub keys: Keys,
    /// The last configuration that had it.
    pub configuration: u64,
}

/// The entry for a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the table.
    pub place: usize,
    /// True if the entry is there already, with what was counted.
    pub is_known: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One for each location.
    pub entries: Vec<Entry>,
    /// Places that nobody needs any more.
    pub free: Vec<usize>,
    /// Places that there must be: all that are in use are below.
    pub places: usize,
}

/// Plans the entries for the locations that are `wanted`, when the configuration `current` is in use, and `oldest` is the
/// oldest one that a living worker has.
///
/// An entry is needed as long as a worker lives that knows it: its sessions and programs are counted there. Those of the
/// current configuration are needed until there is another one, because the new one may still be refused.
pub fn plan(present: &[Present], wanted: &[Keys], current: u64, oldest: u64) -> Plan {
    let by_full: HashMap<u64, &Present> = present.iter().map(|entry| (entry.keys.full, entry)).collect();
    let mut entries: Vec<Option<Entry>> = Vec::with_capacity(wanted.len());
    let mut taken = BTreeSet::new();
    for keys in wanted {
        let known = by_full.get(&keys.full).filter(|entry| taken.insert(entry.place));
        entries.push(known.map(|entry| Entry { place: entry.place, is_known: true }));
    }
    // Locations that have no entry yet, and entries that no location has: where there is one of each, they belong together.
    let mut unmatched: HashMap<u64, Vec<usize>> = HashMap::new();
    for (nth, keys) in wanted.iter().enumerate().filter(|(nth, _)| entries[*nth].is_none()) {
        unmatched.entry(keys.short).or_default().push(nth);
    }
    let mut left: HashMap<u64, Vec<usize>> = HashMap::new();
    for entry in present.iter().filter(|entry| entry.configuration == current && !taken.contains(&entry.place)) {
        left.entry(entry.keys.short).or_default().push(entry.place);
    }
    for (short, locations) in unmatched {
        if let (&[nth], Some(&[place])) = (&locations[..], left.get(&short).map(Vec::as_slice)) {
            entries[nth] = Some(Entry { place, is_known: true });
            taken.insert(place);
        }
    }
    let mut free = Vec::new();
    for entry in present.iter().filter(|entry| !taken.contains(&entry.place)).collect::<Vec<_>>() {
        if entry.configuration >= current || oldest <= entry.configuration {
            taken.insert(entry.place);
        } else {
            free.push(entry.place);
        }
    }
    let mut next = 0;
    let mut vacant = || {
        while !taken.insert(next) {
            next += 1;
        }
        Entry { place: next, is_known: false }
    };
    let entries = entries.into_iter().map(|entry| entry.unwrap_or_else(&mut vacant)).collect();
    Plan { entries, free, places: taken.last().map_or(0, |last| last + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(full: u64, short: u64) -> Keys {
        Keys { full, short }
    }

    fn present(entries: &[(usize, Keys, u64)]) -> Vec<Present> {
        entries.iter().map(|&(place, keys, configuration)| Present { place, keys, configuration }).collect()
    }

    fn places(plan: &Plan) -> Vec<(usize, bool)> {
        plan.entries.iter().map(|entry| (entry.place, entry.is_known)).collect()
    }

    #[test]
    fn what_is_the_same_keeps_its_entry() {
        let before = present(&[(0, keys(1, 10), 1), (1, keys(2, 20), 1)]);
        let plan = plan(&before, &[keys(2, 20), keys(3, 30), keys(1, 10)], 1, 1);
        assert_eq!(places(&plan), [(1, true), (2, false), (0, true)]);
        assert_eq!((plan.free, plan.places), (vec![], 3));
    }

    #[test]
    fn an_entry_goes_when_no_worker_knows_it_any_more() {
        let before = present(&[(0, keys(1, 10), 1), (1, keys(2, 20), 3), (2, keys(3, 30), 2)]);
        // A worker of the first configuration is there.
        let kept = plan(&before, &[keys(2, 20), keys(9, 90)], 3, 1);
        assert_eq!((places(&kept), kept.free), (vec![(1, true), (3, false)], vec![]));
        // The oldest worker has the second one: it knows what was in it.
        let freed = plan(&before, &[keys(2, 20), keys(9, 90)], 3, 2);
        assert_eq!((places(&freed), freed.free), (vec![(1, true), (0, false)], vec![0]));
        // No worker at all: what the current configuration has stays, which may be gone back to.
        let gone = plan(&before, &[], 3, u64::MAX);
        assert_eq!((gone.free, gone.places), (vec![0, 2], 2));
    }

    #[test]
    fn two_hundred_locations_with_new_names_each_time() {
        let mut before = Vec::new();
        for configuration in 1..50_u64 {
            let wanted: Vec<Keys> =
                (1..=200).map(|nth| keys(configuration * 1000 + nth, nth << 32 | configuration)).collect();
            let plan = plan(&before, &wanted, configuration - 1, configuration - 1);
            assert!(plan.places <= 600, "{}", plan.places);
            before.retain(|entry: &Present| !plan.free.contains(&entry.place));
            for (entry, keys) in plan.entries.iter().zip(wanted) {
                assert!(!entry.is_known && before.iter().all(|present| present.place != entry.place));
                before.push(Present { place: entry.place, keys, configuration });
            }
        }
    }

    #[test]
    fn a_server_with_other_addresses_is_the_same_if_there_is_no_doubt() {
        // Two servers of one name, one of which moves.
        let before = present(&[(0, keys(80, 7), 4), (1, keys(443, 7), 4)]);
        let moved = plan(&before, &[keys(80, 7), keys(8443, 7)], 4, 4);
        assert_eq!(places(&moved), [(0, true), (1, true)]);
        // Both move.
        let doubt = plan(&before, &[keys(8080, 7), keys(8443, 7)], 4, 4);
        assert_eq!(places(&doubt), [(2, false), (3, false)]);
        // One goes; there is no other one that had its addresses.
        let gone = plan(&before, &[keys(80, 7)], 4, 4);
        assert_eq!(places(&gone), [(0, true)]);
        // What an old worker alone still has is not what a new server is.
        let old = present(&[(0, keys(80, 7), 3)]);
        assert_eq!(places(&plan(&old, &[keys(81, 7)], 4, 1)), [(1, false)]);
    }
}
