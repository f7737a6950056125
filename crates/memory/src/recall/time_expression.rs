//! Expressions of time in a query: "yesterday", "last Tuesday", "3 days ago", "2026-11-20", "last time".

use jiff::{
    Span, Timestamp, ToSpan as _, Zoned,
    civil::{Date, Weekday},
};

use super::query::Word;

/// What a query says about time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum When {
    /// The newest of what fits: "last time", "latest".
    Latest,
    /// A stretch of time.
    Between {
        /// Its begin.
        from: Timestamp,
        /// Its end, not within it.
        to: Timestamp,
    },
}

/// The first expression of time among the words, and which words it takes up.
pub(crate) fn find(words: &[Word<'_>], now: &Zoned) -> Option<(When, std::ops::Range<usize>)> {
    (0..words.len()).find_map(|begin| {
        let rest: Vec<&str> = words[begin..].iter().map(|word| word.lower.as_str()).take(6).collect();
        let (when, length) = at(&rest, now)?;
        Some((when, begin..begin + length))
    })
}

fn at(words: &[&str], now: &Zoned) -> Option<(When, usize)> {
    let today = now.date();
    let found = match *words {
        ["the", ref rest @ ..] => return at(rest, now).map(|(when, length)| (when, length + 1)),
        ["day", "before", "yesterday", ..] => (days(now, shift(today, (-2).days())?, 1)?, 3),
        ["yesterday", ..] => (days(now, shift(today, (-1).days())?, 1)?, 1),
        ["today" | "tonight", ..] => (days(now, today, 1)?, 1),
        ["this", "morning" | "afternoon" | "evening", ..] => (days(now, today, 1)?, 2),
        ["last", "night", ..] => {
            let evening = shift(today, (-1).days())?.at(18, 0, 0, 0);
            (between(now, evening, today.at(6, 0, 0, 0))?, 2)
        }
        ["this", unit @ ("week" | "month" | "year"), ..] => (calendar(now, unit, 0)?, 2),
        ["last" | "past" | "previous", unit @ ("week" | "month" | "year"), ..] => {
            (calendar(now, unit, -1)?, 2)
        }
        ["last" | "on" | "this" | "past", day, ..] if weekday(day).is_some() => {
            (before_today(now, weekday(day)?)?, 2)
        }
        ["in", month, ref rest @ ..] if month_number(month).is_some() => {
            let year = rest.first().and_then(|year| year_number(year));
            (month_of(now, month_number(month)?, year)?, 2 + usize::from(year.is_some()))
        }
        ["last" | "past", count, unit, ..] if number(count).is_some() && span(1, unit).is_some() => {
            let from = now.checked_sub(span(number(count)?, unit)?).ok()?;
            (When::Between { from: from.timestamp(), to: after(now.timestamp()) }, 3)
        }
        [count, unit, "ago", ..] if number(count).is_some() => (ago(now, number(count)?, unit)?, 3),
        ["last" | "latest" | "newest" | "recently", "time", ..] => (When::Latest, 2),
        ["most", "recent" | "recently", ..] => (When::Latest, 2),
        ["last" | "latest" | "newest" | "recent" | "recently", ..] => (When::Latest, 1),
        [month, day, ref rest @ ..] if month_number(month).is_some() && day_number(day).is_some() => {
            dated(now, month, day, rest)?
        }
        [day, month, ref rest @ ..] if month_number(month).is_some() && day_number(day).is_some() => {
            dated(now, month, day, rest)?
        }
        [day, ..] if weekday(day).is_some() => (before_today(now, weekday(day)?)?, 1),
        [date, ..] if date.len() == 10 && date.as_bytes()[4] == b'-' => {
            (days(now, date.parse::<Date>().ok()?, 1)?, 1)
        }
        _ => return None,
    };
    Some(found)
}

fn shift(date: Date, by: Span) -> Option<Date> {
    date.checked_add(by).ok()
}

fn after(moment: Timestamp) -> Timestamp {
    moment.checked_add(1.microsecond()).unwrap_or(moment)
}

fn between(now: &Zoned, from: jiff::civil::DateTime, to: jiff::civil::DateTime) -> Option<When> {
    let moment = |at: jiff::civil::DateTime| at.to_zoned(now.time_zone().clone()).ok();
    Some(When::Between { from: moment(from)?.timestamp(), to: moment(to)?.timestamp() })
}

fn days(now: &Zoned, first: Date, count: i32) -> Option<When> {
    let end = shift(first, count.days())?;
    between(now, first.at(0, 0, 0, 0), end.at(0, 0, 0, 0))
}

fn calendar(now: &Zoned, unit: &str, back: i32) -> Option<When> {
    let today = now.date();
    match unit {
        "week" => {
            let monday = shift(today, (-i32::from(today.weekday().to_monday_zero_offset())).days())?;
            days(now, shift(monday, back.weeks())?, 7)
        }
        "month" => {
            let first = shift(today.first_of_month(), back.months())?;
            days(now, first, i32::from(first.days_in_month()))
        }
        _ => {
            let first = shift(today.first_of_year(), back.years())?;
            days(now, first, i32::from(first.days_in_year()))
        }
    }
}

fn before_today(now: &Zoned, day: Weekday) -> Option<When> {
    days(now, now.date().nth_weekday(-1, day).ok()?, 1)
}

fn month_of(now: &Zoned, month: i8, year: Option<i16>) -> Option<When> {
    let today = now.date();
    let year = year.unwrap_or(if month > today.month() { today.year() - 1 } else { today.year() });
    let first = Date::new(year, month, 1).ok()?;
    days(now, first, i32::from(first.days_in_month()))
}

fn dated(now: &Zoned, month: &str, day: &str, rest: &[&str]) -> Option<(When, usize)> {
    let (month, day) = (month_number(month)?, day_number(day)?);
    let named = rest.first().and_then(|year| year_number(year));
    let mut date = Date::new(named.unwrap_or(now.date().year()), month, day).ok()?;
    if named.is_none() && date > now.date() {
        date = Date::new(date.year() - 1, month, day).ok()?;
    }
    Some((days(now, date, 1)?, 2 + usize::from(named.is_some())))
}

/// A whole day, week or month for those units, and half a unit on both sides for shorter ones.
fn ago(now: &Zoned, count: i32, unit: &str) -> Option<When> {
    let today = now.date();
    match unit.trim_end_matches('s') {
        "day" => days(now, shift(today, (-count).days())?, 1),
        "week" => days(now, shift(today, (-7 * count - 3).days())?, 7),
        "month" => {
            let first = shift(today, (-count).months())?.first_of_month();
            days(now, first, i32::from(first.days_in_month()))
        }
        "year" => {
            let first = shift(today, (-count).years())?.first_of_year();
            days(now, first, i32::from(first.days_in_year()))
        }
        "hour" => around(now, count.checked_mul(60)?, 60),
        "minute" => around(now, count, count.clamp(4, 30)),
        _ => None,
    }
}

fn around(now: &Zoned, minutes_ago: i32, width: i32) -> Option<When> {
    let centre = now.timestamp().checked_sub(minutes_ago.minutes()).ok()?;
    let half = (width / 2).minutes();
    Some(When::Between { from: centre.checked_sub(half).ok()?, to: centre.checked_add(half).ok()? })
}

fn span(count: i32, unit: &str) -> Option<Span> {
    Some(match unit.trim_end_matches('s') {
        "minute" => count.minutes(),
        "hour" => count.hours(),
        "day" => count.days(),
        "week" => count.weeks(),
        "month" => count.months(),
        "year" => count.years(),
        _ => return None,
    })
}

fn number(word: &str) -> Option<i32> {
    const NAMES: [&str; 11] =
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    match word {
        "a" | "an" => Some(1),
        "couple" => Some(2),
        "few" => Some(3),
        _ => match NAMES.iter().position(|name| *name == word) {
            Some(number) => i32::try_from(number).ok(),
            None => word.parse().ok().filter(|number| (1..=1_000).contains(number)),
        },
    }
}

fn weekday(word: &str) -> Option<Weekday> {
    Some(match word {
        "monday" => Weekday::Monday,
        "tuesday" => Weekday::Tuesday,
        "wednesday" => Weekday::Wednesday,
        "thursday" => Weekday::Thursday,
        "friday" => Weekday::Friday,
        "saturday" => Weekday::Saturday,
        "sunday" => Weekday::Sunday,
        _ => return None,
    })
}

fn month_number(word: &str) -> Option<i8> {
    const NAMES: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let found = NAMES.iter().position(|name| *name == word || (word.len() == 3 && name.starts_with(word)))?;
    i8::try_from(found + 1).ok()
}

fn day_number(word: &str) -> Option<i8> {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let suffix = &word[digits.len()..];
    let day = digits.parse().ok().filter(|day| (1..=31).contains(day))?;
    matches!(suffix, "" | "st" | "nd" | "rd" | "th").then_some(day)
}

fn year_number(word: &str) -> Option<i16> {
    word.parse().ok().filter(|year| (1_900..=2_999).contains(year))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recall::query::words;

    fn found(query: &str) -> Option<When> {
        // A Sunday.
        let now: Zoned = "2026-11-22T15:30:00+01:00[Europe/Zagreb]".parse().unwrap();
        find(&words(query), &now).map(|(when, _)| when)
    }

    fn stretch(from: &str, to: &str) -> Option<When> {
        let moment = |text: &str| {
            format!("{text}[Europe/Zagreb]")
                .parse::<Zoned>()
                .unwrap_or_else(|e| panic!("{text}: {e}"))
                .timestamp()
        };
        Some(When::Between { from: moment(from), to: moment(to) })
    }

    #[test]
    fn days_weeks_and_months_are_resolved_in_the_persons_time_zone() {
        for (query, from, to) in [
            ("What did I do yesterday?", "2026-11-21T00:00", "2026-11-22T00:00"),
            ("the day before yesterday", "2026-11-20T00:00", "2026-11-21T00:00"),
            ("anything from today", "2026-11-22T00:00", "2026-11-23T00:00"),
            ("last Tuesday", "2026-11-17T00:00", "2026-11-18T00:00"),
            ("on Sunday", "2026-11-15T00:00", "2026-11-16T00:00"),
            ("What happened last week?", "2026-11-09T00:00", "2026-11-16T00:00"),
            ("this month", "2026-11-01T00:00", "2026-12-01T00:00"),
            ("last month", "2026-10-01T00:00", "2026-11-01T00:00"),
            ("last year", "2025-01-01T00:00", "2026-01-01T00:00"),
            ("3 days ago", "2026-11-19T00:00", "2026-11-20T00:00"),
            ("two weeks ago", "2026-11-05T00:00", "2026-11-12T00:00"),
            ("on 2026-11-20.", "2026-11-20T00:00", "2026-11-21T00:00"),
            ("on 5 November", "2026-11-05T00:00", "2026-11-06T00:00"),
            ("on December 24th, 2024", "2024-12-24T00:00", "2024-12-25T00:00"),
            ("December 24", "2025-12-24T00:00", "2025-12-25T00:00"),
            ("in March", "2026-03-01T00:00", "2026-04-01T00:00"),
            ("last night", "2026-11-21T18:00", "2026-11-22T06:00"),
            ("an hour ago", "2026-11-22T14:00", "2026-11-22T15:00"),
        ] {
            assert_eq!(found(query), stretch(from, to), "{query}");
        }
        let Some(When::Between { from, to }) = found("in the last 2 days") else { panic!("no stretch") };
        assert_eq!(to.duration_since(from).as_hours(), 48);
    }

    #[test]
    fn last_time_means_the_latest() {
        for query in
            ["What did I train last time, and how good was it?", "my latest model", "the most recent run"]
        {
            assert_eq!(found(query), Some(When::Latest), "{query}");
        }
    }

    #[test]
    fn other_words_are_no_time() {
        for query in
            ["May I ask?", "march on", "what is 2026", "9999999999 days ago", "999-99-99x", "éé-éé-é"]
        {
            assert_eq!(found(query), None, "{query}");
        }
    }
}
