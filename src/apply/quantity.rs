//! Kubernetes quantities (`resource.Quantity`): `1`, `0.5`, `1000m`, `1Gi`, `1e3`. Only whether two are the same amount.
//!
//! The API server stores what it was given, but `kubectl edit` and other writers may put the same amount differently.

use serde_json::Value;

/// Worth of a suffix as (base, power), times a number of billionths: `m` is 10^6 of them, `Ki` is 2^10 * 10^9.
const SUFFIXES: [(&str, u32, u32); 16] = [
    ("Ki", 10, 9),
    ("Mi", 20, 9),
    ("Gi", 30, 9),
    ("Ti", 40, 9),
    ("Pi", 50, 9),
    ("Ei", 60, 9),
    ("n", 0, 0),
    ("u", 0, 3),
    ("m", 0, 6),
    ("k", 0, 12),
    ("M", 0, 15),
    ("G", 0, 18),
    ("T", 0, 21),
    ("P", 0, 24),
    ("E", 0, 27),
    ("", 0, 9),
];

/// Whether both are quantities of one amount.
pub fn equal(left: &Value, right: &Value) -> bool {
    matches!((billionths(left), billionths(right)), (Some(left), Some(right)) if left == right)
}

/// The amount in billionths, the finest that Kubernetes knows; `None` if it is no quantity or too large to matter.
fn billionths(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => parse(text),
        Value::Number(number) => parse(&number.to_string()),
        _ => None,
    }
}

fn parse(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let known = SUFFIXES.iter().find(|(name, _, _)| *name == suffix);
    let (twos, tens) = match known {
        Some((_, twos, tens)) => (*twos, *tens),
        None => (0, u32::try_from(9 + suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?).ok()?),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = tens.checked_sub(u32::try_from(fraction.len()).ok()?)?;
    digits.checked_mul(1_i128 << twos)?.checked_mul(10_i128.checked_pow(scale)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_amount_has_many_spellings() {
        for (left, right) in [
            ("1", "1000m"),
            ("0.5", "500m"),
            ("1Gi", "1024Mi"),
            ("1.5Gi", "1536Mi"),
            ("1k", "1000"),
            ("1e3", "1k"),
            ("2E3", "2000"),
            ("1E", "1000P"),
            ("100n", "0.1u"),
            ("+5", "5"),
        ] {
            assert!(equal(&left.into(), &right.into()), "{left} = {right}");
        }
        assert!(equal(&1.into(), &"1000m".into()));
    }

    #[test]
    fn other_amounts_and_other_things_are_not_equal() {
        for (left, right) in
            [("1G", "1Gi"), ("1", "1m"), ("", ""), ("x", "x"), ("1x", "1x"), ("9e99", "9e99"), ("1.", "")]
        {
            assert!(!equal(&left.into(), &right.into()), "{left} and {right}");
        }
    }
}
