//! Durations as Go writes them, because a channel's configuration holds them as text.

use std::time::Duration;

/// As Go's `Duration.String`: `500ms`, `2s`, `1m0s`, `1h0m0.5s`.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => return "0s".into(),
        1..1_000 => return format!("{nanos}ns"),
        1_000..1_000_000 => return format!("{}µs", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => return format!("{}ms", decimal(nanos, 1_000_000)),
        _ => {}
    }
    let minutes = nanos / 60_000_000_000;
    let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, m) => format!("{m}m{seconds}s"),
        (h, m) => format!("{h}h{m}m{seconds}s"),
    }
}

fn decimal(number: u128, unit: u128) -> String {
    let digits = unit.ilog10() as usize;
    let text = format!("{}.{:0digits$}", number / unit, number % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Reads Go's notation: one or more numbers, each with a unit of `ns`, `us`, `µs`, `ms`, `s`, `m`, `h`.
pub fn parse(text: &str) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(unit_at);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let unit: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        nanos = nanos.checked_add(scaled(number, unit)?)?;
        rest = next;
    }
    Some(Duration::from_nanos(u64::try_from(nanos).ok()?))
}

fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 18 {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    whole.checked_mul(unit)?.checked_add(part.checked_mul(unit)? / 10_u128.pow(fraction.len() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_as_go_does() {
        for (millis, text) in [
            (50, "50ms"),
            (500, "500ms"),
            (2_000, "2s"),
            (1_500, "1.5s"),
            (60_000, "1m0s"),
            (180_000, "3m0s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(format(Duration::from_millis(millis)), text);
            assert_eq!(parse(text), Some(Duration::from_millis(millis)));
        }
        assert_eq!(format(Duration::from_nanos(1_500)), "1.5µs");
    }

    #[test]
    fn different_texts_of_one_duration_are_equal() {
        assert_eq!(parse("3m"), parse("3m0s"));
        assert_eq!(parse("2000ms"), parse("2s"));
        for bad in ["", "2", "s", "2 s", "-2s", "2d", ".s", "1..s", "99999999999999999h"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
