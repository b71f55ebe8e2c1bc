// SPDX-License-Identifier: Apache-2.0

//! Tables of what is not to grow: one column for each size, one row for each server.

use std::fmt::Write as _;

use crate::report::{OURS, Unit, median, thousands};
use crate::results::Cell;

/// How much the largest figure of a row may be above its smallest one.
const FLAT: f64 = 1.15;

/// What one thing costs at each of several sizes.
pub struct Series {
    /// What is measured.
    pub work: String,
    /// What there is more and more of.
    pub of: &'static str,
    unit: Unit,
    sizes: Vec<usize>,
    rows: Vec<(String, Vec<Vec<f64>>)>,
}

impl Series {
    /// An empty one.
    pub fn new(work: &str, unit: Unit, of: &'static str, sizes: &[usize]) -> Self {
        Self { work: work.to_owned(), of, unit, sizes: sizes.to_vec(), rows: Vec::new() }
    }

    /// The sizes.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// Adds a measured value, and tells it on standard error.
    pub fn add(&mut self, server: &str, size: usize, value: f64) {
        eprintln!("  {} | {server} | {} {} | {}", self.work, thousands(size as f64), self.of, self.unit.show(value));
        let Some(at) = self.sizes.iter().position(|&known| known == size) else { return };
        let row = match self.rows.iter().position(|(known, _)| known == server) {
            Some(row) => row,
            None => {
                self.rows.push((server.to_owned(), vec![Vec::new(); self.sizes.len()]));
                self.rows.len() - 1
            }
        };
        self.rows[row].1[at].push(value);
    }

    /// The medians of a server, for each size; NaN where nothing was measured.
    pub fn medians(&self, server: &str) -> Vec<f64> {
        let row = self.rows.iter().find(|(known, _)| known == server);
        row.map_or_else(Vec::new, |(_, cells)| cells.iter().map(|values| median(values)).collect())
    }

    /// What was measured, as medians. A column is a server at a size.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for (server, _) in &self.rows {
            for (size, value) in self.sizes.iter().zip(self.medians(server)).filter(|(_, value)| !value.is_nan()) {
                let (row, column) =
                    (format!("{}, {}", self.work, self.of), format!("{server}, {}", thousands(*size as f64)));
                cells.push(Cell { row, column, value, shown: self.unit.show(value) });
            }
        }
        cells
    }

    /// The table in Markdown. A size at which nothing could be measured has an empty cell.
    pub fn markdown(&self) -> String {
        let sizes: Vec<String> = self.sizes.iter().map(|&size| thousands(size as f64)).collect();
        let mut out = format!("| {}, {} | {} | largest : smallest | goal |\n", self.work, self.of, sizes.join(" | "));
        out.push_str(&"| --- ".repeat(self.sizes.len() + 3));
        out.push_str("|\n");
        for (server, _) in &self.rows {
            let medians = self.medians(server);
            let shown: Vec<String> = medians.iter().map(|&value| self.unit.show(value)).collect();
            let measured: Vec<f64> = medians.into_iter().filter(|value| !value.is_nan()).collect();
            let largest = measured.iter().copied().fold(f64::NAN, f64::max);
            let ratio = largest / measured.iter().copied().fold(f64::NAN, f64::min);
            let goal = match server.as_str() {
                OURS if measured.len() > 1 => {
                    format!("at most {FLAT}: {}", if ratio <= FLAT { "met" } else { "**missed**" })
                }
                _ => String::new(),
            };
            let ratio = if ratio.is_nan() { String::new() } else { format!("{ratio:.2}") };
            let _ = writeln!(out, "| {server} | {} | {ratio} | {goal} |", shown.join(" | "));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_marked() {
        let mut series = Series::new("CPU per delivery", Unit::Microseconds, "subscribers", &[10, 1000, 50_000]);
        for (size, value) in [(10, 4.0), (1000, 4.5), (1000, 4.7)] {
            series.add(OURS, size, value);
        }
        series.add("bare sender", 10, 2.0);
        let lines = |series: &Series| series.markdown().lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            lines(&series),
            [
                "| CPU per delivery, subscribers | 10 | 1,000 | 50,000 | largest : smallest | goal |",
                "| --- | --- | --- | --- | --- | --- |",
                "| ours | 4.00 us | 4.60 us |  | 1.15 | at most 1.15: met |",
                "| bare sender | 2.00 us |  |  | 1.00 |  |"
            ]
        );
        let cells: Vec<String> = series.cells().into_iter().map(|cell| [cell.column, cell.shown].join(" ")).collect();
        assert_eq!(cells, ["ours, 10 4.00 us", "ours, 1,000 4.60 us", "bare sender, 10 2.00 us"]);
        series.add(OURS, 50_000, 4.7);
        assert_eq!(lines(&series)[2], "| ours | 4.00 us | 4.60 us | 4.70 us | 1.18 | at most 1.15: **missed** |");
    }
}
