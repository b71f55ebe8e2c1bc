// SPDX-License-Identifier: Apache-2.0

//! The picture of the main figures: which of those that were kept it shows, and how they are called there.

use std::path::Path;

use super::{channel, exec, growth, pause, publish, tcp};
use crate::picture::{self, Bar, Panel};
use crate::report::OURS;
use crate::results::{self, Cell};

/// The picture of what was kept in this directory, and whether it shows all that there is to be shown; none where nothing was kept.
pub fn svg(directory: &Path) -> Option<(String, bool)> {
    let kept = |name| results::kept(directory, name);
    let (channel, publish, pause) = (kept("channel"), kept("publish"), kept("pause"));
    let panels = [
        servers("One message to 1,000 subscribers", EACH, &channel, channel::ONE_THOUSAND),
        transports(&channel),
        publications(&publish),
        servers("A line of 100 octets to a program and back", LESS, &kept("exec"), exec::ECHO),
        servers("100 octets to a TCP service and back, 10 clients", MORE, &kept("tcp"), tcp::ECHO),
        deliveries(&kept("growth")),
        pauses(&pause),
    ];
    let all = panels.len();
    let panels: Vec<Panel> = panels.into_iter().filter(|panel| !panel.bars.is_empty()).collect();
    let has_all = panels.len() == all;
    (!panels.is_empty()).then(|| (picture::svg("What the module takes, beside its peers", &panels), has_all))
}

const EACH: &str = "CPU time of the server for each delivery, less is better";
const LESS: &str = "CPU time of the server for each, less is better";
const MORE: &str = "in a second, more is better";

fn bar(cell: &Cell, label: &str, is_ours: bool) -> Bar {
    Bar { label: label.to_owned(), value: cell.value, shown: cell.shown.clone(), is_ours }
}

/// One row of a table, a bar for each server.
fn servers(title: &str, note: &str, cells: &[Cell], row: &str) -> Panel {
    let cells = cells.iter().filter(|cell| cell.row == row);
    let bars = cells.map(|cell| bar(cell, &cell.column.replace('`', ""), cell.column == OURS)).collect();
    Panel { title: title.to_owned(), note: note.to_owned(), bars, limit: None }
}

/// Several rows of a table, a bar for each of some servers.
fn rows(cells: &[Cell], rows: &[(&str, &str)], columns: &[&str]) -> Vec<Bar> {
    let mut bars = Vec::new();
    for (row, label) in rows {
        for column in columns {
            if let Some(cell) = cells.iter().find(|cell| cell.row == *row && cell.column == *column) {
                let label = if columns.len() > 1 { format!("{label}, {column}") } else { (*label).to_owned() };
                bars.push(bar(cell, &label, *column == OURS));
            }
        }
    }
    bars
}

fn transports(cells: &[Cell]) -> Panel {
    let bars = rows(cells, &channel::TRANSPORTS, &[channel::PEER, OURS]);
    Panel { title: "One message to 400 subscribers".to_owned(), note: EACH.to_owned(), bars, limit: None }
}

fn publications(cells: &[Cell]) -> Panel {
    let mut panel = servers("Publications", MORE, cells, publish::BY_HTTP);
    for bar in &mut panel.bars {
        bar.label = format!("by HTTP, {}", bar.label);
    }
    panel.bars.extend(rows(cells, &[(publish::WEBSOCKET, "by a WebSocket")], &[publish::PEER, OURS]));
    panel
}

fn deliveries(cells: &[Cell]) -> Panel {
    let row = format!("{}, {}", growth::DELIVERY, growth::SUBSCRIBERS);
    let ours = cells.iter().filter(|cell| cell.row == row && cell.column.starts_with(OURS));
    let label = |cell: &Cell| cell.column.trim_start_matches(OURS).trim_start_matches(", ").to_owned();
    let bars = ours.map(|cell| bar(cell, &label(cell), true)).collect();
    let note = format!("{EACH} and even is best");
    Panel { title: "A delivery, by the number of subscribers".to_owned(), note, bars, limit: None }
}

fn pauses(cells: &[Cell]) -> Panel {
    let bars = rows(cells, &pause::SHOWN, &[OURS]);
    let note = "how long a client of the same worker waits; the line is at 10 ms".to_owned();
    Panel { title: "The longest pause of a worker".to_owned(), note, bars, limit: Some(10.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(row: &str, column: &str, value: f64) -> Cell {
        Cell { row: row.to_owned(), column: column.to_owned(), value, shown: format!("{value}") }
    }

    #[test]
    fn a_row_has_a_bar_for_each_server() {
        let cells = [cell("a", "Nchan", 2.0), cell("a", OURS, 1.0), cell("b", OURS, 9.0)];
        let panel = servers("A", LESS, &cells, "a");
        let bars: Vec<_> = panel.bars.iter().map(|bar| (bar.label.as_str(), bar.value, bar.is_ours)).collect();
        assert_eq!(bars, [("Nchan", 2.0, false), (OURS, 1.0, true)]);
        assert!(servers("A", LESS, &cells, "c").bars.is_empty());
    }

    #[test]
    fn rows_are_called_by_their_servers_where_there_are_several() {
        let cells = [cell("a", "Nchan", 2.0), cell("a", OURS, 1.0)];
        let labels = |columns: &[&str]| {
            rows(&cells, &[("a", "A")], columns).into_iter().map(|bar| bar.label).collect::<Vec<_>>()
        };
        assert_eq!(labels(&["Nchan", OURS]), ["A, Nchan", "A, ours"]);
        assert_eq!(labels(&[OURS]), ["A"]);
    }

    #[test]
    fn a_part_of_the_figures_is_not_all_of_the_picture() {
        let directory = std::env::temp_dir().join(format!("ngx_ws_exec_overview_{}", std::process::id()));
        let keep = |name: &str, rows: &[String]| {
            let results = results::Results::default();
            results.add(rows.iter().map(|row| cell(row, OURS, 1.0)));
            results.keep(&directory, name).unwrap();
            svg(&directory).unwrap().1
        };
        let channel = [channel::ONE_THOUSAND, channel::TRANSPORTS[0].0].map(str::to_owned);
        let growth = format!("{}, {}", growth::DELIVERY, growth::SUBSCRIBERS);
        assert!(!keep("channel", &channel));
        assert!(!keep("publish", &[publish::BY_HTTP.to_owned()]));
        assert!(!keep("exec", &[exec::ECHO.to_owned()]));
        assert!(!keep("tcp", &[tcp::ECHO.to_owned()]));
        assert!(!keep("growth", &[growth]));
        assert!(keep("pause", &[pause::SHOWN[0].0.to_owned()]));
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn nothing_kept_is_no_picture() {
        assert_eq!(svg(Path::new("/nonexistent")), None);
    }
}
