// SPDX-License-Identifier: Apache-2.0

//! How a region is divided.

use super::layout::{CELL, Cell, Departed, Header, InterestAt, MAX_SLOTS, Slot, WHEEL};
use crate::channel::journal::Journal;
use crate::channel::memory::Word;

/// A small zone, which is soon rebuilt, gives less of itself to the notes of changes.
const OCTETS_PER_CHANGE: usize = 512;

/// Where the parts of a zone begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    /// Octets of the region.
    pub len: usize,
    /// Number of slots.
    pub slots: usize,
    /// Number of buckets.
    pub buckets: usize,
    /// Number of buckets of the table of groups.
    pub group_buckets: usize,
    /// How many may have left and be waited for; also the number of buckets of their table. A power of two.
    pub departed: usize,
    /// Number of cells.
    pub cells: usize,
    /// Offset of the first slot.
    pub slots_at: usize,
    /// Where changes are noted.
    pub journal: Journal,
    /// Offset of the wheel.
    pub wheel_at: usize,
    /// Offset of the table of groups.
    pub groups_at: usize,
    /// Offset of the buckets of those who have left.
    pub departed_buckets_at: usize,
    /// Offset of those who have left.
    pub departed_at: usize,
    /// Offset of one bit for each cell, used by a repair.
    pub marks_at: usize,
    /// Offset of the buckets.
    pub buckets_at: usize,
    /// Offset of the first cell.
    pub cells_at: usize,
}

impl Geometry {
    /// Cells that a zone must have to be of any use.
    const MIN_CELLS: usize = 64;

    /// Changes that can be noted: more than any step makes.
    const MOST_CHANGES: usize = 4096;

    /// How a region of this length is divided. `None` if it is too small, too large for the links, or if there are too
    /// many slots.
    pub fn new(len: usize, slots: usize) -> Option<Self> {
        if slots == 0 || slots > MAX_SLOTS {
            return None;
        }
        let journal = Journal {
            at: slots_at() + slots * size_of::<Slot>(),
            most: (len / OCTETS_PER_CHANGE).min(Self::MOST_CHANGES),
        };
        let wheel_at = journal.at + Journal::len(journal.most);
        let groups_at = wheel_at + WHEEL * size_of::<Word>();
        let room = len.checked_sub(groups_at)?;
        // About four channels or messages a bucket if all cells were channels.
        let buckets = (room / CELL / 4).next_power_of_two().clamp(64, 1 << 22);
        // Each group has channels.
        let group_buckets = buckets / 4;
        // One for each two to four kilobytes: at most a fiftieth of the zone.
        let departed = buckets / 4;
        let departed_buckets_at = groups_at + group_buckets * size_of::<Word>();
        let departed_at = departed_buckets_at + departed * size_of::<Word>();
        let marks_at = departed_at + departed * size_of::<Departed>();
        let room = len.checked_sub(marks_at)?;
        // Each cell takes its octets and one bit; up to 8 octets of bits and one cell go to alignment.
        let room = room.checked_sub(buckets * size_of::<Word>() + CELL + 8)?;
        let cells = room.checked_mul(8)? / (CELL * 8 + 1);
        let buckets_at = (marks_at + cells.div_ceil(8)).next_multiple_of(8);
        let cells_at = (buckets_at + buckets * size_of::<Word>()).next_multiple_of(CELL);
        let addressable = u32::try_from(len / InterestAt::UNIT).is_ok();
        let fits = cells >= Self::MIN_CELLS && addressable && cells_at + cells * CELL <= len;
        let slots_at = slots_at();
        fits.then_some(Self {
            len,
            slots,
            buckets,
            group_buckets,
            departed,
            cells,
            slots_at,
            journal,
            wheel_at,
            groups_at,
            departed_buckets_at,
            departed_at,
            marks_at,
            buckets_at,
            cells_at,
        })
    }

    /// The offset of a cell, if there is such a cell.
    pub fn cell(&self, cell: Cell) -> Option<usize> {
        (cell.index() < self.cells).then(|| self.cells_at + cell.index() * CELL)
    }
}

fn slots_at() -> usize {
    size_of::<Header>().next_multiple_of(CELL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_overlap_and_the_region_is_used() {
        for len in (0..4_000_000).step_by(4096 + 8) {
            for slots in [1, 16, MAX_SLOTS] {
                let Some(geometry) = Geometry::new(len, slots) else {
                    assert!(len < 400_000, "{len}");
                    continue;
                };
                assert!(size_of::<Header>() <= geometry.slots_at);
                assert!(geometry.marks_at + geometry.cells.div_ceil(8) <= geometry.buckets_at);
                assert!(geometry.buckets_at + 4 * geometry.buckets <= geometry.cells_at);
                let end = geometry.cells_at + geometry.cells * CELL;
                assert!(end <= len && len - end < 4 * CELL, "{len} {end}");
                let Geometry { slots_at, wheel_at, groups_at, departed_buckets_at, departed_at, marks_at, .. } =
                    geometry;
                for at in [slots_at, wheel_at, groups_at, departed_buckets_at, departed_at, marks_at] {
                    assert_eq!(at % 8, 0);
                }
                assert!(groups_at + 4 * geometry.group_buckets <= departed_buckets_at);
                assert!(departed_buckets_at + 4 * geometry.departed <= departed_at);
                assert!(departed_at + size_of::<Departed>() * geometry.departed <= marks_at);
                assert!(
                    geometry.departed.is_power_of_two()
                        && (36 * geometry.departed <= len / 50 || geometry.departed == 16),
                    "{len}"
                );
                assert_eq!(geometry.buckets_at % 8, 0);
                assert_eq!(geometry.cells_at % CELL, 0);
            }
        }
    }

    #[test]
    fn what_cannot_be_addressed_is_refused() {
        assert_eq!(Geometry::new(1 << 40, 8), None);
        assert_eq!(Geometry::new(usize::MAX, 8), None);
        assert_eq!(Geometry::new(1 << 20, 0), None);
        assert_eq!(Geometry::new(1 << 20, MAX_SLOTS + 1), None);
        assert!(Geometry::new(32 << 20, 64).is_some_and(|geometry| geometry.cells > 128_000));
    }
}
