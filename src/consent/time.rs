//! FHIR's dates and times as spans: a date is a whole day of the policy's time zone, a month a whole month.
//!
//! The time zones come from the database compiled into the binary: two hospitals that decide on the same transaction
//! must not differ because their operating systems do. The trap: `9999-12-31` means "for ever" and has no day after it.

use jiff::civil::{Date, DateTime};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp};

use super::error::FieldError;
use crate::vocabulary as api;

/// The time zone with this IANA name.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZoneDatabase::bundled().get(name).map_err(|_| format!("{name:?} is not an IANA time zone"))
}

/// The moments that a FHIR date or dateTime stands for: from the first one up to, without, the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// First moment.
    pub from: Timestamp,
    /// First moment after; none at the end of the calendar.
    pub until: Option<Timestamp>,
    /// Whether it is a time, not a day, month or year.
    exact: bool,
}

impl TimeRange {
    /// Reads `YYYY`, `YYYY-MM`, `YYYY-MM-DD` (in `zone`) or `YYYY-MM-DDThh:mm:ss[.f]` with an offset.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Self, String> {
        let bad =
            || format!("{text:?} is not a FHIR date or time: write YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ssZ");
        if !text.is_ascii() {
            return Err(bad());
        }
        if text.len() > 10 {
            return Self::parse_time(text).ok_or_else(bad);
        }
        let number = |range: std::ops::Range<usize>| {
            let digits = text.get(range)?;
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<i16>().ok())?
        };
        let dash = |at: usize| text.as_bytes().get(at) == Some(&b'-');
        let (year, month, day) = (number(0..4), number(5..7), number(8..10));
        let (first, length) = match (text.len(), year, month, day) {
            (4, Some(year), _, _) => (Date::new(year, 1, 1), Span::new().years(1)),
            (7, Some(year), Some(month), _) if dash(4) => (Date::new(year, month as i8, 1), Span::new().months(1)),
            (10, Some(year), Some(month), Some(day)) if dash(4) && dash(7) => {
                (Date::new(year, month as i8, day as i8), Span::new().days(1))
            }
            _ => return Err(bad()),
        };
        let first = first.ok().filter(|first| first.year() > 0).ok_or_else(bad)?;
        let midnight = |date: Date| date.to_zoned(zone.clone()).map(|zoned| zoned.timestamp());
        let from = midnight(first).or_else(|error| end_of_time(first).ok_or(error)).map_err(|_| bad())?;
        let until = first.checked_add(length).and_then(midnight).ok();
        Ok(Self { from, until, exact: false })
    }

    fn parse_time(text: &str) -> Option<Self> {
        let (time, rest) = (text.get(..19)?, text.get(19..)?);
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        let shaped = time.bytes().enumerate().all(|(i, b)| match marks.iter().find(|(at, _)| *at == i) {
            Some((_, mark)) => b == *mark,
            None => b.is_ascii_digit(),
        });
        let zone = rest.find(['Z', '+', '-'])?;
        let (fraction, offset) = rest.split_at(zone);
        let fraction = if fraction.is_empty() { "" } else { fraction.strip_prefix('.').filter(|f| !f.is_empty())? };
        // A leap second is none of the clock that decides.
        if !shaped || !digits(fraction) || fraction.len() > 9 || &time[17..] == "60" || !is_offset(offset) {
            return None;
        }
        let clock: DateTime = time.parse().ok().filter(|clock: &DateTime| clock.year() > 0)?;
        let from: Timestamp = text.parse().ok().or_else(|| end_of_time(clock.date()))?;
        let precision = 10_i64.pow(9_u32.saturating_sub(u32::try_from(fraction.len()).ok()?));
        Some(Self { from, until: from.checked_add(Span::new().nanoseconds(precision)).ok(), exact: true })
    }
}

/// Whether it says how far a clock is from UTC: no place is further than 14 hours before and 12 hours behind.
fn is_offset(text: &str) -> bool {
    let near = |offset: &str, most: &str| {
        let shaped = offset.len() == 5 && offset.as_bytes()[2] == b':';
        let digits = offset.bytes().filter(u8::is_ascii_digit).count() == 4;
        shaped && digits && &offset[3..] < "60" && offset <= most
    };
    let east = text.strip_prefix('+').is_some_and(|offset| near(offset, "14:00"));
    text == "Z" || east || text.strip_prefix('-').is_some_and(|offset| near(offset, "12:00"))
}

/// The last representable moment, for the last days of the calendar, which in some time zones lie after it.
fn end_of_time(day: Date) -> Option<Timestamp> {
    (day.year() == 9999 && day.month() == 12).then_some(Timestamp::MAX)
}

impl TimeRange {
    /// A time to the nanosecond.
    pub fn moment(at: Timestamp) -> Self {
        Self { from: at, until: at.checked_add(Span::new().nanoseconds(1)).ok(), exact: true }
    }

    /// Whether the two have a moment in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        let ends_after = |one: &Self, begin: Timestamp| one.until.is_none_or(|until| begin < until);
        ends_after(self, other.from) && ends_after(other, self.from)
    }
}

/// A validity or the age of data, with the text it was written as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    /// When it ends, for people: the time as written, or the midnight after the last day.
    pub ends: Option<Timestamp>,
    /// As the consent wrote it.
    pub text: api::Period,
}

impl Period {
    /// Reads both ends; refuses a period that is empty or reversed.
    pub fn parse(text: &api::Period, field: &str, zone: &TimeZone) -> Result<Self, FieldError> {
        let moments = |end: &Option<String>, name: &str| {
            let parsed = end.as_deref().map(|end| TimeRange::parse(end, zone)).transpose();
            parsed.map_err(|message| FieldError::new(format!("{field}.{name}"), message))
        };
        let start = moments(&text.start, "start")?;
        let end = moments(&text.end, "end")?;
        if start.is_none() && end.is_none() {
            return Err(FieldError::new(field, "a period needs a start or an end"));
        }
        let (from, until) = (start.map(|start| start.from), end.and_then(|end| end.until));
        if let (Some(from), Some(until)) = (from, until)
            && from >= until
        {
            return Err(FieldError::new(field, "start must not be after end"));
        }
        let ends = end.and_then(|end| if end.exact { Some(end.from) } else { end.until });
        Ok(Self { from, until, ends, text: text.clone() })
    }

    /// When it next begins or ends, after `now`.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        [self.from, self.ends, self.until].into_iter().flatten().filter(|moment| *moment > now).min()
    }

    /// Whether `now` lies in it.
    pub fn contains(&self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }

    /// Whether any moment of `range` lies in it.
    pub fn overlaps(&self, range: TimeRange) -> bool {
        let begins_before_end = self.until.is_none_or(|until| range.from < until);
        let ends_after_begin = self.from.is_none_or(|from| range.until.is_none_or(|until| from < until));
        begins_before_end && ends_after_begin
    }

    /// Whether every moment of `range` lies in it.
    pub fn encloses(&self, range: TimeRange) -> bool {
        let begins = self.from.is_none_or(|from| from <= range.from);
        begins && self.until.is_none_or(|until| range.until.is_some_and(|end| end <= until))
    }

    /// Whether everything in it lies in `other`.
    pub fn within(&self, other: &Self) -> bool {
        let starts = other.from.is_none_or(|outer| self.from.is_some_and(|inner| outer <= inner));
        let ends = other.until.is_none_or(|outer| self.until.is_some_and(|inner| inner <= outer));
        starts && ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(text: &str, zone_name: &str) -> (String, String) {
        let parsed = TimeRange::parse(text, &zone(zone_name).expect("zone")).expect(text);
        (parsed.from.to_string(), parsed.until.map(|until| until.to_string()).unwrap_or_default())
    }

    #[test]
    fn a_date_is_a_whole_day_month_or_year() {
        assert_eq!(moments("2026", "UTC"), ("2026-01-01T00:00:00Z".into(), "2027-01-01T00:00:00Z".into()));
        assert_eq!(moments("2024-02", "UTC"), ("2024-02-01T00:00:00Z".into(), "2024-03-01T00:00:00Z".into()));
        assert_eq!(moments("2024-02-29", "UTC"), ("2024-02-29T00:00:00Z".into(), "2024-03-01T00:00:00Z".into()));
    }

    #[test]
    fn a_day_is_a_day_of_the_time_zone() {
        let winter = ("2026-01-14T23:00:00Z".to_owned(), "2026-01-15T23:00:00Z".to_owned());
        assert_eq!(moments("2026-01-15", "Europe/Berlin"), winter);
        let clocks_go_forward = ("2026-03-28T23:00:00Z".to_owned(), "2026-03-29T22:00:00Z".to_owned());
        assert_eq!(moments("2026-03-29", "Europe/Berlin"), clocks_go_forward);
    }

    #[test]
    fn a_time_counts_to_its_precision() {
        assert_eq!(moments("2026-01-01T10:00:00+02:00", "UTC").1, "2026-01-01T08:00:01Z");
        assert_eq!(moments("2026-01-01T10:00:00.5Z", "UTC").1, "2026-01-01T10:00:00.6Z");
        assert_eq!(moments("2026-01-01T10:00:00.123456789+14:00", "UTC").0, "2025-12-31T20:00:00.123456789Z");
        assert_eq!(moments("2026-01-01T10:00:00-12:00", "UTC").0, "2026-01-01T22:00:00Z");
    }

    #[test]
    fn the_last_day_of_the_calendar_has_no_end() {
        assert_eq!(moments("9999-12-31", "UTC").1, "");
        assert_eq!(moments("9999-12-31T23:59:59Z", "UTC").1, "");
        assert!(period(Some("2026"), Some("9999-12-31")).expect("period").contains(Timestamp::MAX));
    }

    #[test]
    fn refuses_what_is_no_date() {
        for text in [
            "",
            "26",
            "2026-13",
            "2026-02-30",
            "2026-1-1",
            "2026/01/01",
            "2026-01-01T10:00:00",
            "2026-01-01T10:00Z",
            "2026-01-01 10:00:00Z",
            "２０２６",
            "now",
            "2026-01-01Z",
            "2016-12-31T23:59:60Z",
            "2016-12-31T23:59:60.999+01:00",
            "0000",
            "0000-01-01T00:00:00Z",
            "9999-12-01T00:00:00 rubbish Z",
            "9999-12-05T10:00:00.Z",
            "9999-12-05T10:00:00+01:99",
            "9999-12-31T23:59:59-25:00",
            "9999-12-32T00:00:00Z",
            "2026-11-23T13:00:00,5Z",
            "2026-11-23T12:00:00+00:60",
            "2026-11-23T12:00:00-13:59",
            "2026-11-23T12:00:00-12:01",
            "2026-11-23T12:00:00+14:01",
            "2026-11-23T12:00:00+1:000",
            "2026-11-23T24:00:00Z",
            "2026-11-23T12:00:00z",
            "2026-11-23t12:00:00Z",
            "2026-11-23T12:00:00[UTC]Z",
            "2026-11-23T12:00:00Z ",
            "2026-11-23T12:00:00ZZ",
            "2026-11-23T12:00:00.1234567891Z",
            "+026-11-23T12:00:00Z",
        ] {
            assert!(TimeRange::parse(text, &TimeZone::UTC).is_err(), "{text}");
        }
    }

    fn period(start: Option<&str>, end: Option<&str>) -> Result<Period, FieldError> {
        let text = api::Period { start: start.map(str::to_owned), end: end.map(str::to_owned) };
        Period::parse(&text, "period", &TimeZone::UTC)
    }

    #[test]
    fn an_end_is_included() {
        let year = period(Some("2026-01-01"), Some("2026-12-31")).expect("period");
        let at = |text: &str| text.parse::<Timestamp>().expect(text);
        assert!(year.contains(at("2026-12-31T23:59:59.999Z")) && !year.contains(at("2027-01-01T00:00:00Z")));
        assert!(year.contains(at("2026-01-01T00:00:00Z")) && !year.contains(at("2025-12-31T23:59:59Z")));
        assert_eq!(year.ends, Some(at("2027-01-01T00:00:00Z")));
        let timed = period(None, Some("2026-05-01T10:00:00Z")).expect("period");
        assert!(timed.contains(at("2026-05-01T10:00:00Z")) && !timed.contains(at("2026-05-01T10:00:01Z")));
        assert_eq!(timed.ends, Some(at("2026-05-01T10:00:00Z")));
    }

    #[test]
    fn refuses_a_reversed_or_empty_period() {
        assert_eq!(period(Some("2027"), Some("2026-12")).expect_err("reversed").message, "start must not be after end");
        assert!(period(None, None).is_err());
        assert!(period(Some("2026-12-31T12:00:00Z"), Some("2026-12-31")).is_ok());
    }

    #[test]
    fn data_of_a_day_overlaps() {
        let spring = period(Some("2026-03-01"), Some("2026-05-31T12:00:00Z")).expect("period");
        let overlaps = |text: &str| spring.overlaps(TimeRange::parse(text, &TimeZone::UTC).expect(text));
        assert!(overlaps("2026-05-31") && overlaps("2026") && overlaps("2026-03-01T00:00:00Z"));
        assert!(!overlaps("2026-06-01") && !overlaps("2026-02-28") && !overlaps("2026-05-31T12:00:01Z"));
        let encloses = |text: &str| spring.encloses(TimeRange::parse(text, &TimeZone::UTC).expect(text));
        assert!(encloses("2026-05-30") && encloses("2026-04") && encloses("2026-05-31T12:00:00Z"));
        assert!(!encloses("2026") && !encloses("2026-05-31") && !encloses("2026-05"));
    }
}
