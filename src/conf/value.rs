// SPDX-License-Identifier: Apache-2.0

//! Times, sizes, numbers and switches, as nginx core reads them.

use super::Refused;

/// A number of octets: `0`, `512`, `64k`, `1m`, `2g`.
///
/// # Errors
///
/// [`Refused::Value`] for anything else and for sizes that do not fit 63 bits.
pub fn size(text: &[u8]) -> Result<u64, Refused> {
    let (digits, shift) = match text.split_last() {
        Some((b'k' | b'K', digits)) => (digits, 10),
        Some((b'm' | b'M', digits)) => (digits, 20),
        Some((b'g' | b'G', digits)) => (digits, 30),
        _ => (text, 0),
    };
    decimal(digits)
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|&size| size <= i64::MAX as u64)
        .ok_or_else(|| Refused::value(text, "a size such as \"512\", \"64k\" or \"1m\""))
}

/// A time in milliseconds: `0`, `500ms`, `30s`, `5m`, `1h30m`; a bare number is seconds.
///
/// # Errors
///
/// [`Refused::Value`] for anything else and for times beyond 2^31 milliseconds, which nginx's timers cannot tell from
/// the past.
pub fn time(text: &[u8]) -> Result<u64, Refused> {
    parse_time(text)
        .filter(|&time| time <= i32::MAX as u64)
        .ok_or_else(|| Refused::value(text, "a time such as \"500ms\", \"30s\", \"5m\" or \"0\", at most 24 days"))
}

/// Units in the order in which they may follow each other, with their milliseconds.
const UNITS: [(&[u8], u64); 8] = [
    (b"y", 365 * 24 * 3_600_000),
    (b"M", 30 * 24 * 3_600_000),
    (b"w", 7 * 24 * 3_600_000),
    (b"d", 24 * 3_600_000),
    (b"h", 3_600_000),
    (b"m", 60_000),
    (b"s", 1000),
    (b"ms", 1),
];

fn parse_time(text: &[u8]) -> Option<u64> {
    let mut rest = text;
    let mut next_unit = 0;
    let mut total: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.iter().take_while(|octet| octet.is_ascii_digit()).count();
        let number = decimal(&rest[..digits])?;
        rest = &rest[digits..];
        let letters = rest.iter().take_while(|octet| octet.is_ascii_alphabetic()).count();
        let scale = if letters == 0 {
            // Seconds, and nothing after them.
            if !rest.is_empty() || next_unit > 6 {
                return None;
            }
            1000
        } else {
            let place = UNITS.iter().position(|(unit, _)| *unit == &rest[..letters])?;
            if place < next_unit {
                return None;
            }
            next_unit = place + 1;
            UNITS[place].1
        };
        rest = &rest[letters..];
        // nginx allows blanks between the parts of a time.
        while let [b' ', tail @ ..] = rest {
            rest = tail;
        }
        total = number.checked_mul(scale).and_then(|part| total.checked_add(part))?;
    }
    Some(total)
}

/// A decimal number from `least` to `most`.
///
/// # Errors
///
/// [`Refused::Value`] for anything else.
pub fn number(text: &[u8], least: u64, most: u64) -> Result<u64, Refused> {
    decimal(text).filter(|number| (least..=most).contains(number)).ok_or_else(|| {
        let expected = if most == u64::MAX {
            format!("a number from {least}")
        } else {
            format!("a number from {least} to {most}")
        };
        Refused::value(text, expected)
    })
}

/// `on` or `off`.
///
/// # Errors
///
/// [`Refused::Value`] for anything else.
pub fn flag(text: &[u8]) -> Result<bool, Refused> {
    choice(text, &[("on", true), ("off", false)])
}

/// One of a list of words.
///
/// # Errors
///
/// [`Refused::Value`] names the words.
pub fn choice<V: Copy>(text: &[u8], words: &[(&str, V)]) -> Result<V, Refused> {
    words
        .iter()
        .find(|(word, _)| word.as_bytes() == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| Refused::value(text, one_of(words.iter().map(|(word, _)| *word))))
}

fn one_of<'w>(words: impl ExactSizeIterator<Item = &'w str>) -> String {
    let last = words.len().saturating_sub(1);
    let mut sentence = String::new();
    for (place, word) in words.enumerate() {
        if place > 0 {
            sentence.push_str(if place == last { " or " } else { ", " });
        }
        sentence.push('"');
        sentence.push_str(word);
        sentence.push('"');
    }
    sentence
}

/// Plain digits; no sign, no blank, no overflow.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, octet| {
        let digit = octet.is_ascii_digit().then(|| u64::from(octet - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, octets) in
            [("0", 0), ("512", 512), ("64k", 65_536), ("64K", 65_536), ("1m", 1 << 20), ("2g", 2 << 30)]
        {
            assert_eq!(size(text.as_bytes()), Ok(octets), "{text}");
        }
        for text in ["", "k", "-1", "+1", "1.5m", "1t", "1kk", " 1", "99999999999999999999", "9999999999g"] {
            assert!(size(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn times() {
        for (text, milliseconds) in [
            ("0", 0),
            ("5", 5000),
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1m 5", 65_000),
        ] {
            assert_eq!(time(text.as_bytes()), Ok(milliseconds), "{text}");
        }
        for text in ["", "s", "-1", "1x", "1s1m", "1ss", "5 5", "1ms5", "99999999999999999999s", "30d"] {
            assert!(time(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_refusal_names_what_is_accepted() {
        let refused = flag(b"yes").unwrap_err();
        assert_eq!(refused, Refused::value(b"yes", "\"on\" or \"off\""));
        assert_eq!(number(b"9", 1, 8), Err(Refused::value(b"9", "a number from 1 to 8")));
        assert_eq!(choice(b"d", &[("a", 1), ("b", 2), ("c", 3)]), Err(Refused::value(b"d", "\"a\", \"b\" or \"c\"")));
    }

    #[test]
    fn numbers_on_both_sides_of_the_limit() {
        assert_eq!(number(b"1", 1, 8), Ok(1));
        assert_eq!(number(b"8", 1, 8), Ok(8));
        assert!(number(b"0", 1, 8).is_err());
        assert!(number(b"", 0, 8).is_err());
        assert_eq!(number(b"18446744073709551615", 0, u64::MAX), Ok(u64::MAX));
        assert!(number(b"18446744073709551616", 0, u64::MAX).is_err());
    }
}
