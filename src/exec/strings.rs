// SPDX-License-Identifier: Apache-2.0

//! A list of strings in the form that the kernel takes: argument lists and environments.

/// Strings without NUL, kept in one buffer, each ended by NUL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Strings {
    block: Vec<u8>,
    count: usize,
}

/// A string with a NUL in it, which no argument and no variable can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainsNul;

impl std::fmt::Display for ContainsNul {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string that contains NUL")
    }
}

impl std::error::Error for ContainsNul {}

impl Strings {
    /// An empty list.
    pub const fn new() -> Self {
        Self { block: Vec::new(), count: 0 }
    }

    /// An empty list with room for this many octets, the NUL of each string included.
    pub fn with_capacity(octets: usize) -> Self {
        Self { block: Vec::with_capacity(octets), count: 0 }
    }

    /// Appends a string.
    ///
    /// # Errors
    ///
    /// [`ContainsNul`] if it has a NUL in it; the list is as it was.
    pub fn push(&mut self, string: &[u8]) -> Result<(), ContainsNul> {
        if memchr::memchr(0, string).is_some() {
            return Err(ContainsNul);
        }
        self.push_with(|block| block.extend_from_slice(string));
        Ok(())
    }

    /// Appends the string that `write` appends to the buffer; it must not write a NUL.
    pub(super) fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.block.len();
        write(&mut self.block);
        debug_assert!(memchr::memchr(0, self.block.get(start..).unwrap_or_default()).is_none());
        self.block.push(0);
        self.count += 1;
    }

    /// The number of strings.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All strings, each with its NUL.
    pub fn as_block(&self) -> &[u8] {
        &self.block
    }

    /// The strings, without their NUL.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.block.as_slice();
        std::iter::from_fn(move || {
            let end = memchr::memchr(0, rest)?;
            let (string, tail) = rest.split_at_checked(end)?;
            rest = tail.get(1..).unwrap_or_default();
            Some(string)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back() {
        let mut list = Strings::new();
        assert!(list.is_empty());
        for string in [&b"one"[..], b"", b"two words"] {
            list.push(string).unwrap();
        }
        assert_eq!(list.len(), 3);
        assert_eq!(list.iter().collect::<Vec<_>>(), [&b"one"[..], b"", b"two words"]);
        assert_eq!(list.as_block(), b"one\0\0two words\0");
        assert_eq!(list.push(b"a\0b"), Err(ContainsNul));
        assert_eq!(list.len(), 3);
    }
}
