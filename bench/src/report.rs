// SPDX-License-Identifier: Apache-2.0

//! Medians and Markdown tables.

use std::fmt::Write as _;

use crate::results::Cell;

/// The median of `values`; the mean of the middle two when their number is even. NaN without values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

/// What the numbers of a row are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Counts a second.
    PerSecond,
    /// Millions of octets a second.
    Megabytes,
    /// Octets of memory, shown in thousands.
    Memory,
    /// Octets.
    Octets,
    /// A number of things.
    Count,
    /// How many times another figure.
    Times,
}

impl Unit {
    /// A value with its unit; nothing for one that is not known.
    pub fn show(self, value: f64) -> String {
        match self {
            _ if value.is_nan() => String::new(),
            Self::Milliseconds => format!("{value:.2} ms"),
            Self::Microseconds if value >= 100.0 => format!("{value:.0} us"),
            Self::Microseconds => format!("{value:.2} us"),
            Self::PerSecond => format!("{}/s", thousands(value)),
            Self::Megabytes => format!("{} MB/s", thousands(value)),
            Self::Memory => format!("{:.1} kB", value / 1000.0),
            Self::Octets => format!("{value:.0} B"),
            Self::Count => thousands(value),
            Self::Times => format!("{value:.2}x"),
        }
    }
}

/// A number with commas.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut shown = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A value that the module is to reach, as a multiple of its peer's or as a number.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// At most this part of the peer's.
    AtMostTimes(f64),
    /// At least this multiple of the peer's.
    AtLeastTimes(f64),
    /// At most this part of what is in the column of this name.
    AtMostTimesOf(f64, &'static str),
    /// At least this multiple of what is in the column of this name.
    AtLeastTimesOf(f64, &'static str),
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// Measured for information.
    None,
}

impl Goal {
    fn show(self, unit: Unit) -> String {
        match self {
            Self::AtMostTimes(times) => format!("at most {times}x"),
            Self::AtLeastTimes(times) => format!("at least {times}x"),
            Self::AtMostTimesOf(times, column) => format!("at most {times}x {column}"),
            Self::AtLeastTimesOf(times, column) => format!("at least {times}x {column}"),
            Self::AtMost(value) => format!("at most {}", unit.show(value)),
            Self::AtLeast(value) => format!("at least {}", unit.show(value)),
            Self::None => String::new(),
        }
    }

    /// `of` has the medians of the columns by name, and for the empty name the peer's.
    fn is_met(self, ours: f64, of: impl Fn(&str) -> f64) -> Option<bool> {
        let (met, other) = match self {
            Self::AtMostTimes(times) => (ours <= of("") * times, of("")),
            Self::AtLeastTimes(times) => (ours >= of("") * times, of("")),
            Self::AtMostTimesOf(times, column) => (ours <= of(column) * times, of(column)),
            Self::AtLeastTimesOf(times, column) => (ours >= of(column) * times, of(column)),
            Self::AtMost(value) => (ours <= value, value),
            Self::AtLeast(value) => (ours >= value, value),
            Self::None => return None,
        };
        (!ours.is_nan() && !other.is_nan()).then_some(met)
    }
}

/// A table: one row for each work, one column for each server, the first of which is the peer that the goals refer to.
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Row>,
}

struct Row {
    work: String,
    unit: Unit,
    goal: Goal,
    /// Every round's value, for each column.
    cells: Vec<Vec<f64>>,
}

/// The name of the module's column.
pub const OURS: &str = "ours";

impl Table {
    /// An empty table.
    pub fn new(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(|&column| column.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a measured value to the row called `work` in the column called `column`, and tells it on standard error.
    pub fn add(&mut self, work: &str, unit: Unit, goal: Goal, column: &str, value: f64) {
        eprintln!("  {work} | {column} | {}", unit.show(value));
        let Some(at) = self.columns.iter().position(|known| known == column) else { return };
        let row = match self.rows.iter().position(|row| row.work == work) {
            Some(row) => row,
            None => {
                let cells = vec![Vec::new(); self.columns.len()];
                self.rows.push(Row { work: work.to_owned(), unit, goal, cells });
                self.rows.len() - 1
            }
        };
        self.rows[row].cells[at].push(value);
    }

    /// What was measured, as medians.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for row in &self.rows {
            for (column, values) in self.columns.iter().zip(&row.cells).filter(|(_, values)| !values.is_empty()) {
                let value = median(values);
                cells.push(Cell { row: row.work.clone(), column: column.clone(), value, shown: row.unit.show(value) });
            }
        }
        cells
    }

    /// The table in Markdown: medians, the ratio of ours to the peer, the goal and whether it is met.
    pub fn markdown(&self) -> String {
        let peer = self.columns.first().map_or("", String::as_str);
        let mut out = format!("| work | {} | {OURS} : {peer} | goal |\n", self.columns.join(" | "));
        out.push_str(&"| --- ".repeat(self.columns.len() + 3));
        out.push_str("|\n");
        let ours_at = self.columns.iter().position(|column| column == OURS);
        for row in &self.rows {
            let medians: Vec<f64> = row.cells.iter().map(|values| median(values)).collect();
            let peer = medians.first().copied().unwrap_or(f64::NAN);
            let ours = ours_at.map_or(f64::NAN, |at| medians[at]);
            let shown: Vec<String> = medians.iter().map(|&value| row.unit.show(value)).collect();
            let ratio = ours / peer;
            let ratio = if ratio.is_nan() { String::new() } else { format!("{ratio:.2}") };
            let of = |column: &str| match self.columns.iter().position(|known| known == column) {
                Some(at) => medians[at],
                None => peer,
            };
            let verdict = match row.goal.is_met(ours, of) {
                Some(true) => ": met",
                Some(false) => ": **missed**",
                None => "",
            };
            let goal = row.goal.show(row.unit);
            let _ = writeln!(out, "| {} | {} | {ratio} | {goal}{verdict} |", row.work, shown.join(" | "));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!(median(&[]).is_nan());
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn a_row_tells_whether_its_goal_is_met() {
        let mut table = Table::new(&["peer", OURS]);
        table.add("echo", Unit::PerSecond, Goal::AtLeastTimes(2.0), "peer", 1_000.0);
        table.add("echo", Unit::PerSecond, Goal::AtLeastTimes(2.0), OURS, 1_999.0);
        table.add("memory", Unit::Memory, Goal::AtMost(12_000.0), OURS, 3_000.0);
        let lines: Vec<String> = table.markdown().lines().map(str::to_owned).collect();
        assert_eq!(lines[2], "| echo | 1,000/s | 1,999/s | 2.00 | at least 2x: **missed** |");
        assert_eq!(lines[3], "| memory |  | 3.0 kB |  | at most 12.0 kB: met |");
        let cells: Vec<String> =
            table.cells().into_iter().map(|cell| [cell.row, cell.column, cell.shown].join(" ")).collect();
        assert_eq!(
            cells,
            ["echo peer 1,000/s", "echo ours 1,999/s", "memory ours 3.0 kB"],
            "nothing of what was not measured"
        );
    }

    #[test]
    fn a_goal_may_be_a_part_of_another_column() {
        let mut table = Table::new(&["peer", "floor", OURS]);
        for (column, value) in [("peer", 400.0), ("floor", 100.0), (OURS, 131.0)] {
            table.add("answer", Unit::Microseconds, Goal::AtMostTimesOf(1.3, "floor"), column, value);
        }
        table.add("rate", Unit::PerSecond, Goal::AtLeastTimesOf(0.7, "floor"), OURS, 70.0);
        let lines: Vec<String> = table.markdown().lines().map(str::to_owned).collect();
        assert_eq!(lines[2], "| answer | 400 us | 100 us | 131 us | 0.33 | at most 1.3x floor: **missed** |");
        assert_eq!(lines[3], "| rate |  |  | 70/s |  | at least 0.7x floor |", "nothing to compare with");
    }
}
