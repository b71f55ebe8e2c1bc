// SPDX-License-Identifier: Apache-2.0

//! Chains of cells: taking and giving back, writing and reading contents.

use super::Memory;
use super::layout::{BODY, CELL, Cell, CellHead, link, tag};
use crate::channel::memory::Corrupt;

/// A chain.
#[derive(Debug, Clone, Copy)]
pub struct Chain {
    /// Its first cell.
    pub head: Cell,
    /// Its last cell.
    pub tail: Cell,
}

/// Cells for contents of `len` octets if the first cell holds `inline` of them.
pub fn cells_for(len: usize, inline: usize) -> usize {
    1 + len.saturating_sub(inline).div_ceil(BODY)
}

impl Memory<'_> {
    /// Cells that are not in use.
    pub fn free_cells(self) -> Result<usize, Corrupt> {
        let header = self.header()?;
        let fresh = self.geometry.cells.saturating_sub(header.fresh.get() as usize);
        Ok(header.free_count.get() as usize + fresh)
    }

    /// Takes `count` cells, chained; the first gets `head`'s tag. The caller has made sure that there are so many.
    ///
    /// Invariant: none of the cells that are taken was given back since the last checkpoint, because what is written to cells is
    /// not noted: undone, the update would bring back what they contained. Whoever takes cells has made room before.
    pub fn take_cells(self, count: usize, head: u32) -> Result<Chain, Corrupt> {
        let header = self.header()?;
        let mut chain: Option<Chain> = None;
        let (mut reused, mut fresh) = (0, header.fresh.get());
        let mut free = Cell::new(header.free.get());
        for _ in 0..count {
            let cell = match free {
                Some(cell) => {
                    free = Cell::new(self.cell::<CellHead>(cell)?.next.get());
                    reused += 1;
                    cell
                }
                None => {
                    fresh += 1;
                    Cell::new(fresh).ok_or(Corrupt)?
                }
            };
            let this = self.cell::<CellHead>(cell)?;
            chain = Some(match chain {
                None => {
                    this.tag.set(head);
                    Chain { head: cell, tail: cell }
                }
                Some(Chain { head, tail }) => {
                    // If all this is undone, the cell is free again whatever its tag says: only a first cell is looked at by
                    // whoever still refers to it.
                    this.tag.put(tag::BODY);
                    let last = &self.cell::<CellHead>(tail)?.next;
                    if tail.number() > header.fresh.get() {
                        // The cell was never in use.
                        last.put(cell.number());
                    } else if last.get() != cell.number() {
                        // Cells that were free are chained like this already.
                        last.set(cell.number());
                    }
                    Chain { head, tail: cell }
                }
            });
        }
        let chain = chain.ok_or(Corrupt)?;
        self.cell::<CellHead>(chain.tail)?.next.set(0);
        header.free.set(link(free));
        header.free_count.sub(reused);
        header.fresh.set(fresh);
        Ok(chain)
    }

    /// Gives a chain of `count` cells back.
    pub fn give_cells(self, chain: Chain, count: u32) -> Result<(), Corrupt> {
        let header = self.header()?;
        self.cell::<CellHead>(chain.head)?.tag.set(tag::FREE);
        self.cell::<CellHead>(chain.tail)?.next.set(header.free.get());
        header.free.set(chain.head.number());
        header.free_count.add(count);
        Ok(())
    }

    /// The last cell of a chain of `count` cells.
    pub fn chain_end(self, head: Cell, count: u32) -> Result<Chain, Corrupt> {
        let mut tail = head;
        for _ in 1..count {
            tail = Cell::new(self.cell::<CellHead>(tail)?.next.get()).ok_or(Corrupt)?;
        }
        Ok(Chain { head, tail })
    }

    /// Writes contents along a chain. `inline` is where they begin in its first cell.
    pub fn write_along<'b>(
        self,
        head: Cell,
        inline: usize,
        parts: impl IntoIterator<Item = &'b [u8]>,
    ) -> Result<(), Corrupt> {
        let (mut cell, mut at) = (head, inline);
        for mut part in parts {
            while !part.is_empty() {
                if at == CELL {
                    cell = Cell::new(self.cell::<CellHead>(cell)?.next.get()).ok_or(Corrupt)?;
                    at = size_of::<CellHead>();
                }
                let (now, later) = part.split_at(part.len().min(CELL - at));
                self.region.write(self.offset(cell)? + at, now)?;
                at += now.len();
                part = later;
            }
        }
        Ok(())
    }

    /// Copies `len` octets along a chain to the end of `to`, which has room for them.
    pub fn read_along(self, head: Cell, inline: usize, mut len: usize, to: &mut Vec<u8>) -> Result<(), Corrupt> {
        let (mut cell, mut at) = (head, inline);
        loop {
            let now = len.min(CELL - at);
            self.region.append_to(self.offset(cell)? + at, now, to)?;
            len -= now;
            if len == 0 {
                return Ok(());
            }
            cell = Cell::new(self.cell::<CellHead>(cell)?.next.get()).ok_or(Corrupt)?;
            at = size_of::<CellHead>();
        }
    }

    /// Whether contents along a chain are these.
    pub fn equal_along(self, head: Cell, inline: usize, parts: [&[u8]; 2]) -> Result<bool, Corrupt> {
        let (mut cell, mut at) = (head, inline);
        for mut part in parts {
            while !part.is_empty() {
                if at == CELL {
                    cell = Cell::new(self.cell::<CellHead>(cell)?.next.get()).ok_or(Corrupt)?;
                    at = size_of::<CellHead>();
                }
                let (now, later) = part.split_at(part.len().min(CELL - at));
                if !self.region.equals(self.offset(cell)? + at, now)? {
                    return Ok(false);
                }
                at += now.len();
                part = later;
            }
        }
        Ok(true)
    }
}
