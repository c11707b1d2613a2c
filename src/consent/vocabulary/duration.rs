//! Durations as Kubernetes users write them (`2160h`, `500ms`), with the schema that CEL's `duration()` understands.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A positive duration in Go's notation: numbers with the units `h`, `m`, `s` and `ms`, for example `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub Duration);

impl GoDuration {
    /// `n` hours.
    pub const fn hours(n: u64) -> Self {
        Self(Duration::from_secs(n * 3600))
    }

    /// `n` milliseconds.
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }
}

/// Why a text is no duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a duration: write numbers with units h, m, s, ms in this order, for example 1h30m")]
pub struct NotADuration(String);

impl std::str::FromStr for GoDuration {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        let bad = || NotADuration(text.to_owned());
        let mut rest = text;
        let mut total = Duration::ZERO;
        let mut last = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|n| (1..=7).contains(n)).ok_or_else(bad)?;
            let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
            let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
            let (rank, millis) = match &rest[digits..unit_end] {
                "h" => (1, 3_600_000),
                "m" => (2, 60_000),
                "s" => (3, 1_000),
                "ms" => (4, 1),
                _ => return Err(bad()),
            };
            if rank <= last {
                return Err(bad());
            }
            last = rank;
            total += Duration::from_millis(number * millis);
            rest = &rest[unit_end..];
        }
        if total.is_zero() { Err(bad()) } else { Ok(Self(total)) }
    }
}

impl std::fmt::Display for GoDuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut millis = self.0.as_millis();
        for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if millis >= size {
                write!(f, "{}{unit}", millis / size)?;
                millis %= size;
            }
        }
        Ok(())
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in ["8760h", "1h30m", "500ms", "2s", "1h2m3s4ms"] {
            let parsed: GoDuration = text.parse().expect(text);
            assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn refuses_what_a_user_may_mistype() {
        for text in ["", "0h", "1d", "-1h", "1.5h", "1", "1m1h", "1h1h", "99999999h", "1µs"] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }
}
