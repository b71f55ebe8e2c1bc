// SPDX-License-Identifier: Apache-2.0

//! Dates of HTTP (RFC 9110, section 5.6.7).

const DAY_NAMES: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];

/// The months from March on, since the day that a leap year has more is the last one of a year that begins with it.
const MONTHS: [&[u8; 3]; 12] =
    [b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec", b"Jan", b"Feb"];

/// Days of 400 years, after which the calendar repeats itself.
const CYCLE: u64 = 146_097;

/// Days from the 1st of March of the year 0 to the beginning of 1970.
const EPOCH: u64 = 719_468;

/// The last second of the year 9999: later years have no four digits.
const LAST: u64 = 253_402_300_799;

/// A time, in seconds since 1970, as an IMF-fixdate; one after the year 9999 as the end of that. Each answer to a long-poll has one.
pub fn http_date(unix: u64) -> [u8; 29] {
    let unix = unix.min(LAST);
    let (days, second) = (unix / 86_400, unix % 86_400);
    let (cycles, day) = ((days + EPOCH) / CYCLE, (days + EPOCH) % CYCLE);
    // Every fourth year has a day more, but for every hundredth, but for every four hundredth, which is the last of its cycle.
    let year = (day - day / 1460 + day / 36_524 - day / (CYCLE - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on, five months have 153 days again and again.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = 400 * cycles + year + u64::from(month >= 10);
    let mut date = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    date[..3].copy_from_slice(DAY_NAMES[(days % 7) as usize]);
    date[8..11].copy_from_slice(MONTHS[month as usize]);
    let fields =
        [(5, day), (12, year / 100), (14, year % 100), (17, second / 3600), (20, second / 60 % 60), (23, second % 60)];
    for (at, number) in fields {
        date[at] = b'0' + (number / 10) as u8;
        date[at + 1] = b'0' + (number % 10) as u8;
    }
    date
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
            (13_574_563_200, "Tue, 29 Feb 2400 00:00:00 GMT"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (253_402_300_800, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ];
        for (unix, date) in expected {
            assert_eq!(str::from_utf8(&http_date(unix)), Ok(date), "{unix}");
        }
    }

    /// Each day of 400 years, counted by the lengths of months and years.
    #[test]
    fn days_follow_each_other() {
        let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let mut unix = 0;
        for year in 1970_u64..2370 {
            let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
            let lengths = [31, 28 + u64::from(is_leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            for (name, length) in names.into_iter().zip(lengths) {
                for day in 1..=length {
                    let date = format!("{day:02} {name} {year} 00:00:00 GMT");
                    assert_eq!(str::from_utf8(&http_date(unix)[5..]), Ok(&*date), "{unix}");
                    unix += 86_400;
                }
            }
        }
    }
}
