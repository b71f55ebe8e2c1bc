// SPDX-License-Identifier: Apache-2.0

//! Bars, as an SVG that looks right on a light page and on a dark one, and needs nothing but itself.

use std::fmt::Write as _;

/// A figure and what it is called.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Whose it is, or at which size.
    pub label: String,
    /// The figure, in the unit of its panel.
    pub value: f64,
    /// As it is shown.
    pub shown: String,
    /// It is the module's.
    pub is_ours: bool,
}

/// Bars that are compared with each other.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What is measured.
    pub title: String,
    /// Which way is the good one, and what else is to be known.
    pub note: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
    /// A value that is not to be exceeded, drawn as a line.
    pub limit: Option<f64>,
}

const WIDTH: usize = 880;
const MARGIN: usize = 24;
/// Where bars begin; their labels end a little before.
const LABELS: usize = 250;
/// What is left for the figure behind the longest bar.
const FIGURES: usize = 110;
const ROW: usize = 24;
const BAR: usize = 15;
/// Title and note of a panel.
const HEAD: usize = 50;
const GAP: usize = 22;

const STYLE: &str = "
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 15px }
.note { fill: #59636e; font-size: 12px }
.page { fill: #ffffff }
.bar { fill: #9aa4af }
.ours { fill: #0969da }
.limit { stroke: #cf222e; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.note { fill: #9198a1 }
.page { fill: #0d1117 }
.bar { fill: #6e7681 }
.ours { fill: #58a6ff }
.limit { stroke: #ff7b72 }
}
";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The picture. Whoever cannot see it is read all of its figures.
pub fn svg(title: &str, panels: &[Panel]) -> String {
    let height = |panel: &Panel| HEAD + panel.bars.len() * ROW + GAP;
    let total = 2 * MARGIN + panels.iter().map(height).sum::<usize>() - GAP.min(panels.len() * GAP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{total}\" viewBox=\"0 0 {WIDTH} {total}\" role=\"img\" \
         aria-labelledby=\"title description\">\n<title id=\"title\">{}</title>\n<desc id=\"description\">{}</desc>\n\
         <style>{STYLE}</style>\n<rect class=\"page\" width=\"{WIDTH}\" height=\"{total}\" rx=\"8\"/>\n",
        escaped(title),
        escaped(&description(panels))
    );
    let mut top = MARGIN;
    for panel in panels {
        draw(panel, top, &mut out);
        top += height(panel);
    }
    out.push_str("</svg>\n");
    out
}

fn description(panels: &[Panel]) -> String {
    let bars = |panel: &Panel| {
        let bars: Vec<String> = panel.bars.iter().map(|bar| format!("{} {}", bar.label, bar.shown)).collect();
        format!("{}: {}.", panel.title, bars.join(", "))
    };
    panels.iter().map(bars).collect::<Vec<_>>().join(" ")
}

fn draw(panel: &Panel, top: usize, out: &mut String) {
    let text = |class: &str, x: usize, y: usize, end: bool, content: &str| {
        let anchor = if end { " text-anchor=\"end\"" } else { "" };
        format!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\"{anchor}>{}</text>\n", escaped(content))
    };
    out.push_str(&text("title", MARGIN, top + 15, false, &panel.title));
    out.push_str(&text("note", MARGIN, top + 34, false, &panel.note));
    let largest = panel.bars.iter().map(|bar| bar.value).chain(panel.limit).fold(0.0, f64::max);
    let room = (WIDTH - MARGIN - LABELS - FIGURES) as f64;
    let length = |value: f64| if largest > 0.0 { value / largest * room } else { 0.0 };
    for (bar, y) in panel.bars.iter().zip((top + HEAD..).step_by(ROW)) {
        let class = if bar.is_ours { "ours" } else { "bar" };
        out.push_str(&text("label", LABELS - 10, y + 12, true, &bar.label));
        let _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{LABELS}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\"/>",
            length(bar.value).max(1.0)
        );
        out.push_str(&text("figure", LABELS + 8 + length(bar.value) as usize, y + 12, false, &bar.shown));
    }
    if let Some(limit) = panel.limit {
        let x = LABELS as f64 + length(limit);
        let (from, to) = (top + HEAD - 6, top + HEAD + panel.bars.len() * ROW - 3);
        let _ = writeln!(out, "<line class=\"limit\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{from}\" y2=\"{to}\"/>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel() -> Panel {
        let bar = |label: &str, value: f64, is_ours| Bar {
            label: label.to_owned(),
            value,
            shown: format!("{value} us"),
            is_ours,
        };
        let bars = vec![bar("a < b", 10.0, false), bar("ours", 5.0, true)];
        Panel { title: "CPU & more".to_owned(), note: "less is better".to_owned(), bars, limit: None }
    }

    #[test]
    fn bars_are_as_long_as_their_figures() {
        let picture = svg("All", &[panel()]);
        assert!(picture.contains("width=\"496.0\" height=\"15\""), "the longest has all the room\n{picture}");
        assert!(picture.contains("class=\"ours\" x=\"250\" y=\"98\" width=\"248.0\""), "{picture}");
        assert!(!picture.contains("<line"));
        let limit = Panel { limit: Some(20.0), ..panel() };
        assert!(svg("All", &[limit]).contains("x1=\"746.0\""), "the limit is within the picture");
    }

    #[test]
    fn it_is_one_that_every_viewer_reads() {
        let picture = svg("All", &[panel(), panel()]);
        assert!(picture.contains("prefers-color-scheme: dark"));
        assert!(picture.contains("<desc id=\"description\">CPU &amp; more: a &lt; b 10 us, ours 5 us. CPU"));
        assert!(!picture.contains("a < b") && !picture.contains("CPU & more"));
        for outside in ["href", "@import", "url(", "<script"] {
            assert!(!picture.contains(outside), "{outside}");
        }
    }

    #[test]
    fn nothing_measured_is_no_picture_that_breaks() {
        assert!(svg("All", &[]).ends_with("</svg>\n"));
        let empty = Panel { bars: Vec::new(), ..panel() };
        assert!(svg("All", &[empty]).contains("CPU &amp; more"));
    }
}
