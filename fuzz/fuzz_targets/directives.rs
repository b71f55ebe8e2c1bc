// SPDX-License-Identifier: Apache-2.0

//! Any arguments of any directives, read as from a file, and inherited: what is refused is refused with a reason, and sizes, times and
//! numbers are what they are in nginx's own directives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::conf::{Arguments, Compiler, Refused, Settings, Table, Template, transfer_rate, value};

/// Text in which "$" makes a variable.
#[derive(Clone)]
struct Text(Vec<u8>);

impl Template for Text {
    fn constant(&self) -> Option<&[u8]> {
        (!self.0.contains(&b'$')).then_some(&self.0)
    }
}

/// A compiler that knows neither variables nor files, and lets everything be.
struct Anything;

impl Compiler for Anything {
    type Template = Text;
    type Regex = ();
    type Service = ();
    type Tls = ();
    type User = ();

    fn compile(&mut self, argument: &[u8]) -> Result<Text, Refused> {
        Ok(Text(argument.to_vec()))
    }

    fn regex(&mut self, _: &[u8], _: bool) -> Result<(), Refused> {
        Ok(())
    }

    fn service(&mut self, _: &[u8]) -> Result<(), Refused> {
        Ok(())
    }

    fn path(&mut self, argument: &[u8]) -> Result<Vec<u8>, Refused> {
        Ok([b"/conf/", argument].concat())
    }

    fn directory(&mut self, argument: &[u8]) -> Result<Vec<u8>, Refused> {
        Ok([b"/prefix/", argument].concat())
    }

    fn user(&mut self, _: &[u8], _: Option<&[u8]>) -> Result<(), Refused> {
        Ok(())
    }
}

/// Whether nginx's own parser of configurations gives a directive so many arguments.
fn is_given(arguments: Arguments, count: usize) -> bool {
    match arguments {
        Arguments::None => count == 0,
        Arguments::Exactly(exactly) => count == usize::from(exactly),
        Arguments::AtMostOne => count <= 1,
        Arguments::OneOrTwo => (1..=2).contains(&count),
        Arguments::OneToThree => (1..=3).contains(&count),
        Arguments::TwoToFour => (2..=4).contains(&count),
        Arguments::Some => count >= 1,
    }
}

/// A number with one unit behind it, as both sizes and times have one.
fn amount(text: &[u8], units: &[(&str, u64)], most: u64) -> Option<u64> {
    let digits = text.iter().take_while(|octet| octet.is_ascii_digit()).count();
    let (_, scale) = units.iter().find(|(unit, _)| unit.as_bytes() == &text[digits..])?;
    let number: u128 = std::str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
    u64::try_from(number * u128::from(*scale)).ok().filter(|amount| *amount <= most)
}

fn values(text: &[u8]) {
    // Longer ones do not fit either number.
    if text.len() > 30 {
        return;
    }
    let sizes =
        [("", 1), ("k", 1 << 10), ("K", 1 << 10), ("m", 1 << 20), ("M", 1 << 20), ("g", 1 << 30), ("G", 1 << 30)];
    assert_eq!(value::size(text).ok(), amount(text, &sizes, i64::MAX as u64));
    let times =
        [("", 1_000), ("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];
    let time = amount(text, &times, i32::MAX as u64);
    match value::time(text) {
        // Another unit, or several of them.
        Ok(read) => assert!(time == Some(read) || (time.is_none() && read <= i32::MAX as u64)),
        Err(_) => assert_eq!(time, None),
    }
    assert_eq!(value::number(text, 0, u64::MAX).ok(), amount(text, &[("", 1)], u64::MAX));
    let _ = transfer_rate(text);
}

fuzz_target!(|data: &[u8]| {
    // One level of the configuration, and one below it.
    let mut levels = [Settings::<Anything>::default(), Settings::default()];
    for line in data.split(|octet| *octet == b'\n').take(8) {
        let [which, line @ ..] = line else { continue };
        let row = &Table::<Anything>::ROWS[usize::from(*which) % Table::<Anything>::ROWS.len()];
        let mut arguments: Vec<&[u8]> = line.split(|octet| *octet == b'|').collect();
        if row.arguments == Arguments::None {
            arguments.clear();
        }
        arguments.iter().for_each(|argument| values(argument));
        if !is_given(row.arguments, arguments.len()) {
            continue;
        }
        let level = &mut levels[usize::from(which & 0x80 != 0)];
        match (row.read)(level, &mut Anything, &arguments) {
            Ok(()) | Err(Refused::Duplicate | Refused::Reported) => {}
            Err(Refused::Value { expected, .. }) => assert!(!expected.is_empty()),
            Err(Refused::Wrong { reason, .. }) | Err(Refused::Usage(reason)) => assert!(!reason.is_empty()),
            Err(Refused::Conflict(name)) => {
                assert!(Table::<Anything>::ROWS.iter().any(|row| row.name.to_str() == Ok(name)))
            }
        }
    }
    let [above, below] = &mut levels;
    below.inherit(above);
    let _ = below.has_content();
});
