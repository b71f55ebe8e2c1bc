// SPDX-License-Identifier: Apache-2.0

//! Samples as a picture (SVG), for light and dark screens: panels below each other that have their time in common.

use std::fmt::Write as _;

use super::sample::Sample;

const WIDTH: f64 = 960.0;
/// Where the area of the lines begins and ends.
const LEFT: f64 = 80.0;
const RIGHT: f64 = 940.0;
/// Height of a panel, and of the area of its lines.
const PANEL: f64 = 180.0;
const AREA: f64 = 120.0;
const TOP: f64 = 60.0;
/// Lines across a panel.
const MARKS: f64 = 4.0;

const STYLE: &str = "
svg { background: #fff; font: 12px system-ui, sans-serif; }
text { fill: #222; } .h { font-size: 18px; } .p { font-weight: 600; } .m { fill: #666; }
.g { stroke: #ddd; } .r { stroke: #b8860b; stroke-dasharray: 3 3; }
polyline { fill: none; stroke-width: 1.5; stroke-linejoin: round; }
.c0 { stroke: #1f6fb4; } .c1 { stroke: #c2410c; } .c2 { stroke: #2e7d32; }
text.c0 { fill: #1f6fb4; stroke: none; } text.c1 { fill: #c2410c; stroke: none; } text.c2 { fill: #2e7d32; stroke: none; }
@media (prefers-color-scheme: dark) {
svg { background: #16181c; } text { fill: #e6e6e6; } .m { fill: #a0a0a0; } .g { stroke: #3a3d42; } .r { stroke: #e0b040; }
.c0 { stroke: #6db3f2; } .c1 { stroke: #ff9a66; } .c2 { stroke: #7bc67e; }
text.c0 { fill: #6db3f2; } text.c1 { fill: #ff9a66; } text.c2 { fill: #7bc67e; }
}
";

type Value = fn(&Sample) -> f64;

const MIB: f64 = 1_048_576.0;

/// The panels: a title and lines with their names.
const PANELS: [(&str, &[(&str, Value)]); 5] = [
    (
        "Private memory, MiB",
        &[
            ("workers", |sample| sample.found.workers.memory as f64 / MIB),
            ("spawners", |sample| sample.found.spawners.memory as f64 / MIB),
            ("master", |sample| sample.found.master.memory as f64 / MIB),
        ],
    ),
    (
        "Open descriptors",
        &[
            ("workers", |sample| sample.found.workers.descriptors as f64),
            ("spawners", |sample| sample.found.spawners.descriptors as f64),
            ("clients", |sample| sample.clients as f64),
        ],
    ),
    ("Zone in use, MiB", &[("zone", |sample| sample.found.zone as f64 / MIB)]),
    ("CPU of the server, % of a core", &[("CPU", |sample| sample.cpu * 100.0)]),
    ("From publication to delivery, ms", &[("median", |sample| sample.median), ("99 %", |sample| sample.p99)]),
];

/// The least of 1, 2, 2.5 and 5 times a power of ten that is not below `value`.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= value * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

/// A number without zeros behind it that say nothing.
fn shown(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The picture.
pub fn svg(title: &str, samples: &[Sample]) -> String {
    let end = samples.last().map_or(1.0, |sample| sample.time.max(1.0));
    let (unit, seconds) = if end > 3.0 * 3600.0 { ("hours", 3600.0) } else { ("minutes", 60.0) };
    let height = TOP + PANEL * PANELS.len() as f64 + 20.0;
    let title = escaped(title);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n<text class=\"h\" x=\"20\" y=\"32\">{title}</text>\n"
    );
    let at = |time: f64| LEFT + (RIGHT - LEFT) * time / end;
    for (number, (name, lines)) in PANELS.iter().enumerate() {
        let top = TOP + PANEL * number as f64;
        let bottom = top + AREA;
        panel(&mut out, name, lines, samples, top, &at);
        // Writing to a string does not fail.
        let reloads = samples.windows(2).filter(|two| two[0].reloads != two[1].reloads);
        for x in reloads.map(|two| at(two[1].time)) {
            let _ = writeln!(out, "<line class=\"r\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>");
        }
        let step = round_up(end / seconds / 8.0);
        for mark in (0..).map(|mark| step * f64::from(mark)).take_while(|mark| mark * seconds <= end) {
            let (x, y) = (at(mark * seconds), bottom + 16.0);
            let _ =
                writeln!(out, "<text class=\"m\" x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>", shown(mark));
        }
    }
    let y = height - 12.0;
    let _ = writeln!(
        out,
        "<text class=\"m\" x=\"{RIGHT}\" y=\"{y}\" text-anchor=\"end\">{unit}; dashed: a reload</text>\n</svg>"
    );
    out
}

fn panel(
    out: &mut String,
    name: &str,
    lines: &[(&str, Value)],
    samples: &[Sample],
    top: f64,
    at: &impl Fn(f64) -> f64,
) {
    let values = samples.iter().flat_map(|sample| lines.iter().map(|(_, value)| value(sample)));
    let step = round_up(values.filter(|value| value.is_finite()).fold(0.0, f64::max) / MARKS);
    let most = step * MARKS;
    let height = |value: f64| top + AREA * (1.0 - value / most);
    let _ = writeln!(out, "<text class=\"p\" x=\"{LEFT}\" y=\"{:.1}\">{name}</text>", top - 8.0);
    for mark in 0..=MARKS as u32 {
        let value = step * f64::from(mark);
        let y = height(value);
        let _ = writeln!(
            out,
            "<line class=\"g\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"m\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 4.0,
            shown(value)
        );
    }
    for (number, (line, value)) in lines.iter().enumerate() {
        let _ = write!(out, "<polyline class=\"c{number}\" points=\"");
        for sample in samples {
            let of = value(sample);
            if of.is_finite() {
                let _ = write!(out, "{:.1},{:.1} ", at(sample.time), height(of));
            }
        }
        let x = RIGHT - 90.0 * (lines.len() - 1 - number) as f64;
        let y = top - 8.0;
        let _ = writeln!(out, "\"/>\n<text class=\"c{number}\" x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{line}</text>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Sample> {
        let sample = |at: u32| {
            let mut sample = Sample { time: f64::from(at) * 60.0, reloads: at / 5, clients: 100, ..Sample::default() };
            sample.found.workers.memory = u64::from(at) << 20;
            sample.median = if at == 3 { f64::NAN } else { 2.0 };
            sample
        };
        (0..=10).map(sample).collect()
    }

    #[test]
    fn lines_are_where_their_values_are() {
        let picture = svg("a < b & c", &samples());
        // From 0 to 10 MiB, which is four steps of 2.5.
        assert!(picture.contains(&format!("{RIGHT:.1},{TOP:.1} ")), "{picture}");
        assert!(picture.contains(&format!("{:.1},{:.1} ", f64::midpoint(LEFT, RIGHT), TOP + AREA / 2.0)));
        assert!(picture.contains(&format!("{:.1},{:.1} ", LEFT, TOP + AREA)));
        assert!(picture.contains("<title>a &lt; b &amp; c</title>"));
        assert_eq!(picture.matches("class=\"r\"").count(), 2 * PANELS.len());
        assert!(picture.contains("prefers-color-scheme: dark") && picture.contains("minutes; dashed: a reload"));
        assert!(!picture.contains("NaN") && !picture.contains("inf"));
    }

    #[test]
    fn every_element_is_closed() {
        for picture in [svg("empty", &[]), svg("one", &samples()[..1]), svg("all", &samples())] {
            let mut open = Vec::new();
            for tag in picture.split('<').skip(1) {
                let (tag, _) = tag.split_once('>').unwrap();
                match tag.strip_prefix('/') {
                    Some(name) => assert_eq!(open.pop(), Some(name), "{picture}"),
                    None if tag.ends_with('/') => {}
                    None => open.push(tag.split(' ').next().unwrap()),
                }
            }
            assert!(open.is_empty());
            assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
        }
    }

    #[test]
    fn marks_are_round_numbers() {
        for (value, round) in [(0.0, 1.0), (1.0, 1.0), (1.1, 2.0), (2.4, 2.5), (3.0, 5.0), (7.0, 10.0), (0.03, 0.05)] {
            assert!((round_up(value) - round).abs() < 1e-9, "{value}: {}", round_up(value));
        }
        assert_eq!([shown(2.50), shown(10.0), shown(0.125)], ["2.5", "10", "0.125"]);
    }
}
