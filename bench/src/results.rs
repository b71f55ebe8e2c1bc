// SPDX-License-Identifier: Apache-2.0

//! What was measured, kept in files, so that figures of several runs of the benchmark can be shown together.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The work that was measured.
    pub row: String,
    /// By whom, or at which size.
    pub column: String,
    /// The figure.
    pub value: f64,
    /// As it is shown.
    pub shown: String,
}

/// The figures of a run.
#[derive(Default)]
pub struct Results {
    cells: RefCell<Vec<Cell>>,
}

fn file(directory: &Path, name: &str) -> PathBuf {
    directory.join("results").join(format!("{name}.tsv"))
}

impl Results {
    /// Notes figures.
    pub fn add(&self, cells: impl IntoIterator<Item = Cell>) {
        self.cells.borrow_mut().extend(cells);
    }

    /// Keeps what was noted as the figures of this name, beside those of earlier runs that were not measured anew.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(&self, directory: &Path, name: &str) -> io::Result<()> {
        let new = self.cells.take();
        let is_new = |old: &Cell| new.iter().any(|cell| cell.row == old.row && cell.column == old.column);
        let mut cells: Vec<Cell> = kept(directory, name).into_iter().filter(|old| !is_new(old)).collect();
        cells.extend(new);
        let lines: String = cells.iter().map(line).collect();
        let path = file(directory, name);
        fs::create_dir_all(directory.join("results"))?;
        fs::write(path, lines)
    }
}

/// The figures of this name that were kept.
pub fn kept(directory: &Path, name: &str) -> Vec<Cell> {
    let lines = fs::read_to_string(file(directory, name)).unwrap_or_default();
    lines.lines().filter_map(parse).collect()
}

fn line(cell: &Cell) -> String {
    format!("{}\t{}\t{}\t{}\n", cell.row, cell.column, cell.value, cell.shown)
}

fn parse(line: &str) -> Option<Cell> {
    let mut fields = line.split('\t').map(str::to_owned);
    let (row, column) = (fields.next()?, fields.next()?);
    let value = fields.next()?.parse().ok()?;
    Some(Cell { row, column, value, shown: fields.next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(row: &str, column: &str, value: f64) -> Cell {
        Cell { row: row.to_owned(), column: column.to_owned(), value, shown: format!("{value} us") }
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let cell = cell("CPU, each", "ours", 1.25);
        assert_eq!(parse(line(&cell).trim_end()), Some(cell));
        assert_eq!(parse("no figure"), None);
    }

    #[test]
    fn what_is_measured_anew_takes_the_place_of_what_was() {
        let directory = std::env::temp_dir().join(format!("ngx_ws_exec_bench_results_{}", std::process::id()));
        let results = Results::default();
        results.add([cell("a", "ours", 1.0), cell("a", "peer", 2.0)]);
        results.keep(&directory, "one").unwrap();
        results.add([cell("a", "ours", 3.0)]);
        results.keep(&directory, "one").unwrap();
        assert_eq!(kept(&directory, "one"), [cell("a", "peer", 2.0), cell("a", "ours", 3.0)]);
        assert_eq!(kept(&directory, "other"), []);
        fs::remove_dir_all(directory).unwrap();
    }
}
