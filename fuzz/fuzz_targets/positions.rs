// SPDX-License-Identifier: Apache-2.0

//! Positions as clients bring them back, in whatever servers in between have made of them, and where subscriptions begin then.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::channel::position::{
    Asked, Cut, Epoch, Lineage, MAX_POSITIONS, MessageId, Offset, Start, Window, begin, etag, join,
};
use ngx_ws_exec::channel::store::Page;

/// Both are drawn below this number.
const GREATEST: u64 = 1 << 53;

/// What was written is read, however it was brought back.
fn is_read_again(written: &str, asked: &Asked) {
    assert_eq!(Asked::id(written.as_bytes()), *asked);
    assert!(!written.contains(|character: char| character.is_ascii_control() || "\" \\".contains(character)));
    let tag = etag(written.to_owned());
    for coding in ["", "-gzip", "-br", "-deflate", "-zstd"] {
        let inside = format!("\"{written}{coding}\"");
        let outside = format!("{tag}{coding}");
        for tag in [&inside, &outside, &format!("W/{inside}"), &format!("\"other\", {inside}"), &format!(" {tag}\t")] {
            assert_eq!(Asked::etag(tag.as_bytes()), *asked, "{tag}");
        }
        for id in [format!("17:{inside}"), format!("17:W/{inside}"), format!("17:{outside}")] {
            assert_eq!(Asked::id(id.as_bytes()), *asked, "{id}");
        }
    }
}

/// Takes numbers from octets, small ones as a rule.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next(&mut self) -> u64 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        if first < 250 {
            return first.into();
        }
        let Some((octets, rest)) = self.0.split_first_chunk() else { return 0 };
        self.0 = rest;
        u64::from_le_bytes(*octets)
    }
}

fn windows(numbers: &mut Numbers<'_>) -> Vec<Window> {
    let mut windows = Vec::new();
    for _ in 0..1 + numbers.next() % 4 {
        let upcoming = 1 + numbers.next() % (u64::MAX - 1);
        let oldest = 1 + numbers.next() % upcoming;
        let history = oldest + numbers.next() % (upcoming - oldest + 1);
        let missing = numbers.next();
        let base = Offset(numbers.next() % upcoming);
        let previous = Some(Epoch(numbers.next())).filter(|epoch| epoch.0 != 0);
        windows.push(Window {
            epoch: Epoch(numbers.next()),
            oldest: Offset(oldest),
            history: Offset(history),
            upcoming: Offset(upcoming),
            missing,
            newest: missing.saturating_add(numbers.next()),
            cut: Some(Offset(oldest + numbers.next() % (upcoming - oldest + 1))).filter(|next| next.0 % 2 == 0),
            is_copy: !numbers.next().is_multiple_of(2),
            lineage: Lineage { base, previous },
        });
    }
    windows
}

fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|octet| *octet == b'\n').unwrap_or(data.len());
    let (text, rest) = data.split_at(at);
    let asked = Asked::id(text);
    let _ = Asked::etag(text);
    match &asked {
        Asked::After(ids) => {
            assert!(!ids.is_empty() && ids.len() <= MAX_POSITIONS);
            is_read_again(&join(ids.iter().copied().map(Some)), &asked);
        }
        Asked::Cut(cut) => {
            assert!(cut.named.len() <= MAX_POSITIONS);
            let is_ours = |number: u64| number < GREATEST;
            if is_ours(cut.zone) && cut.named.iter().all(|id| is_ours(id.epoch.0)) {
                is_read_again(&cut.write(), &asked);
            }
        }
        Asked::Nothing | Asked::Unknown => {}
    }
    if let Ok(text) = std::str::from_utf8(text)
        && let Some(page) = Page::parse(text)
    {
        assert_eq!(Page::parse(&page.to_string()), Some(page));
    }

    let mut numbers = Numbers(rest);
    let windows = windows(&mut numbers);
    // Ids of these channels are met only by chance otherwise.
    let ids: Vec<_> =
        windows.iter().map(|window| MessageId { epoch: window.epoch, offset: Offset(numbers.next()) }).collect();
    let asked = match numbers.next() % 4 {
        0 => Asked::After(ids.into()),
        1 => Asked::Cut(Cut { zone: 1, serial: numbers.next(), named: ids.into_iter().skip(1).collect() }),
        _ => asked,
    };
    let nth = numbers.next() as u32;
    for start in [Start::Newest, Start::Oldest, Start::Nth(nth), Start::Last(nth)] {
        let beginnings = begin(&windows, &asked, start);
        assert_eq!(beginnings.len(), windows.len());
        for (window, beginning) in windows.iter().zip(beginnings) {
            assert!(beginning.next >= window.oldest, "what can be read");
            assert!(beginning.next <= window.upcoming || window.is_copy, "what there is at most");
            assert!(beginning.gap.is_none_or(|gap| gap.lost < window.upcoming.0));
            if asked == Asked::Nothing {
                assert_eq!(beginning.gap, None, "who is new has lost nothing");
            }
        }
    }
});
