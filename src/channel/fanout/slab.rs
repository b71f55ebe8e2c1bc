// SPDX-License-Identifier: Apache-2.0

//! Things with numbers that are used again.

/// A place in a slab, as long as the same thing is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The index in the slab, from 0.
    pub index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Taken(T),
    Vacant { next: Option<u32> },
}

/// What is kept at [places](Place).
#[derive(Debug)]
pub struct Slab<T> {
    entries: Vec<Entry<T>>,
    vacant: Option<u32>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), vacant: None, len: 0 }
    }
}

impl<T> Slab<T> {
    /// The place that the next thing gets. `None` if there are too many.
    pub fn next_place(&self) -> Option<Place> {
        let index = match self.vacant {
            Some(index) => index,
            None => u32::try_from(self.entries.len()).ok()?,
        };
        let generation = self.entries.get(index as usize).map_or(0, |entry| entry.generation);
        Some(Place { index, generation })
    }

    /// Puts something into [`next_place`](Self::next_place). `None` if there is no memory.
    pub fn insert(&mut self, thing: T) -> Option<Place> {
        let place = self.next_place()?;
        if let Some(entry) = self.entries.get_mut(place.index as usize) {
            if let Content::Vacant { next } = entry.content {
                self.vacant = next;
            }
            entry.content = Content::Taken(thing);
        } else {
            self.entries.try_reserve(1).ok()?;
            self.entries.push(Entry { generation: 0, content: Content::Taken(thing) });
        }
        self.len += 1;
        Some(place)
    }

    /// What is at a place.
    pub fn get(&self, place: Place) -> Option<&T> {
        match self.entries.get(place.index as usize) {
            Some(Entry { generation, content: Content::Taken(thing) }) if *generation == place.generation => {
                Some(thing)
            }
            _ => None,
        }
    }

    /// What is at a place.
    pub fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        match self.entries.get_mut(place.index as usize) {
            Some(Entry { generation, content: Content::Taken(thing) }) if *generation == place.generation => {
                Some(thing)
            }
            _ => None,
        }
    }

    /// How many numbers of places there are, of vacant ones as well.
    pub fn places(&self) -> u32 {
        u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    /// What is at the place with this number, whatever was there before, and the place.
    pub fn at(&mut self, index: u32) -> Option<(Place, &mut T)> {
        match self.entries.get_mut(index as usize) {
            Some(Entry { generation, content: Content::Taken(thing) }) => {
                Some((Place { index, generation: *generation }, thing))
            }
            _ => None,
        }
    }

    /// What is at the place with this number, whatever was there before.
    pub fn by_index(&self, index: u32) -> Option<&T> {
        match self.entries.get(index as usize) {
            Some(Entry { content: Content::Taken(thing), .. }) => Some(thing),
            _ => None,
        }
    }

    /// Takes something out.
    pub fn remove(&mut self, place: Place) -> Option<T> {
        self.get(place)?;
        let entry = self.entries.get_mut(place.index as usize)?;
        let content = std::mem::replace(&mut entry.content, Content::Vacant { next: self.vacant });
        entry.generation = entry.generation.wrapping_add(1);
        self.vacant = Some(place.index);
        self.len -= 1;
        match content {
            Content::Taken(thing) => Some(thing),
            Content::Vacant { .. } => None,
        }
    }

    /// How many things there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// All things.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().filter_map(|entry| match &mut entry.content {
            Content::Taken(thing) => Some(thing),
            Content::Vacant { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_not_the_next_things_place() {
        let mut slab = Slab::default();
        let (a, b) = (slab.insert('a').unwrap(), slab.insert('b').unwrap());
        assert_eq!((a.index, b.index, slab.len()), (0, 1, 2));
        assert_eq!(slab.remove(a), Some('a'));
        assert_eq!(slab.remove(a), None);
        let expected = slab.next_place().unwrap();
        let c = slab.insert('c').unwrap();
        assert_eq!((c, c.index), (expected, 0));
        assert_eq!((slab.get(a), slab.get(c)), (None, Some(&'c')));
        assert_eq!(slab.at(0).map(|(place, thing)| (place, *thing)), Some((c, 'c')));
        assert_eq!(slab.iter_mut().map(|thing| *thing).collect::<String>(), "cb");
    }
}
