// SPDX-License-Identifier: Apache-2.0

//! Dates of HTTP (RFC 9110, section 5.6.7).

const DAY_NAMES: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

const MONTHS: [(&str, u64); 12] = [
    ("Jan", 31),
    ("Feb", 28),
    ("Mar", 31),
    ("Apr", 30),
    ("May", 31),
    ("Jun", 30),
    ("Jul", 31),
    ("Aug", 31),
    ("Sep", 30),
    ("Oct", 31),
    ("Nov", 30),
    ("Dec", 31),
];

/// Days of 400 years, after which the calendar repeats itself.
const CYCLE: u64 = 146_097;

/// A time, in seconds since 1970, as an IMF-fixdate.
pub fn http_date(unix: u64) -> String {
    let (days, second) = (unix / 86_400, unix % 86_400);
    let mut year = 1970 + days / CYCLE * 400;
    let mut day = days % CYCLE;
    while day >= days_of(year) {
        day -= days_of(year);
        year += 1;
    }
    let mut month_name = "";
    for (nth, (name, days)) in MONTHS.iter().enumerate() {
        let days = days + u64::from(nth == 1 && days_of(year) == 366);
        month_name = name;
        if day < days {
            break;
        }
        day -= days;
    }
    let weekday = DAY_NAMES.get((days % 7) as usize).copied().unwrap_or_default();
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {:02} {month_name} {year:04} {hour:02}:{minute:02}:{second:02} GMT", day + 1)
}

fn days_of(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if leap { 366 } else { 365 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let expected = [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (13_574_044_800, "Wed, 23 Feb 2400 00:00:00 GMT"),
        ];
        for (unix, date) in expected {
            assert_eq!(http_date(unix), date, "{unix}");
        }
    }
}
