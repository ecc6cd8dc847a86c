//! Points in time as clients write them: `since`, `until`, and the `until` of prunes.
//!
//! Source: moby 28.5.2 `api/types/time/timestamp.go` and Go's `time.Parse` and `time.ParseDuration`. The engine's own
//! handlers of events and logs take Unix times only (the CLI converts the rest); prunes take every form. Local times are
//! UTC: an engine would use its host's zone.

use jiff::Timestamp;
use jiff::civil;

use crate::error::ApiError;
use crate::go_text::{self, quote};

/// `1136073600` or `1136073600.000000001`; none if empty. The words of the error are Go's.
pub fn parse_unix(value: &str) -> Result<Option<Timestamp>, ApiError> {
    if value.is_empty() {
        return Ok(None);
    }
    unix(value).map(Some).map_err(ApiError::bad_parameter)
}

/// Every form: a Unix time, an RFC 3339 time or a part of one, or a Go duration back from `now`; none if empty.
pub fn parse(value: &str, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
    if value.is_empty() {
        return Ok(None);
    }
    read(value, now).map(Some).map_err(ApiError::bad_parameter)
}

/// The time as Go's `RFC3339Nano` prints it in UTC: no trailing zeros.
pub fn rfc3339_nano(time: Timestamp) -> String {
    time.to_string()
}

/// A Go duration such as `1h30m`, `-1.5s` or `300ms`, in nanoseconds.
pub fn parse_go_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number = rest
            .bytes()
            .take_while(|b| b.is_ascii_digit() || *b == b'.')
            .count();
        let unit = rest[number..]
            .bytes()
            .take_while(|b| !b.is_ascii_digit() && *b != b'.')
            .count();
        let (digits, name) = (&rest[..number], &rest[number..number + unit]);
        let nanos: i128 = match name {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let whole: i128 = if whole.is_empty() {
            0
        } else {
            whole.parse::<i64>().ok()?.into()
        };
        let kept = &fraction[..fraction.len().min(18)];
        let part: i128 = if kept.is_empty() {
            0
        } else {
            kept.parse::<i64>().ok()?.into()
        };
        let scale = 10_i128.pow(u32::try_from(kept.len()).ok()?);
        total += whole * nanos + part * nanos / scale;
        if total > i128::from(i64::MAX) {
            return None;
        }
        rest = &rest[number + unit..];
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

fn unix(value: &str) -> Result<Timestamp, String> {
    let words = |error: go_text::BadText| error.with_function("strconv.ParseInt");
    let (seconds, fraction) = value
        .split_once('.')
        .map_or((value, None), |(s, n)| (s, Some(n)));
    let seconds = go_text::parse_int(seconds).map_err(words)?;
    let nanos = match fraction {
        None => 0,
        Some(text) => {
            let digits = i32::try_from(text.len()).unwrap_or(i32::MAX);
            // As the engine: scaled as a float, so that more than nine digits are cut.
            (go_text::parse_int(text).map_err(words)? as f64
                * 10_f64.powi(9_i32.saturating_sub(digits))) as i64
        }
    };
    let out_of_range = || {
        format!(
            "failed to parse value as time or duration: {}",
            quote(value)
        )
    };
    let time = Timestamp::from_second(seconds).map_err(|_| out_of_range())?;
    time.checked_add(jiff::SignedDuration::from_nanos(nanos))
        .map_err(|_| out_of_range())
}

fn read(value: &str, now: Timestamp) -> Result<Timestamp, String> {
    if value != "0"
        && let Some(nanos) = parse_go_duration(value)
    {
        let then = now.checked_sub(jiff::SignedDuration::from_nanos(nanos));
        let then = then.map_err(|_| {
            format!(
                "failed to parse value as time or duration: {}",
                quote(value)
            )
        })?;
        let seconds = then.as_nanosecond().div_euclid(1_000_000_000);
        let seconds = i64::try_from(seconds).unwrap_or_default();
        return Ok(Timestamp::from_second(seconds).unwrap_or(then));
    }
    match read_layout(value, layout(value)) {
        Ok(time) => Ok(time),
        Err(error) if value.contains('-') => Err(error),
        Err(_) => unix(value).map_err(|_| {
            format!(
                "failed to parse value as time or duration: {}",
                quote(value)
            )
        }),
    }
}

/// The layout the engine picks for a value, in Go's notation.
fn layout(value: &str) -> &'static str {
    let zoned = value.contains(['z', 'Z', '+']) || value.matches('-').count() == 3;
    if value.contains('.') {
        return if zoned {
            "2006-01-02T15:04:05.999999999Z07:00"
        } else {
            "2006-01-02T15:04:05.999999999"
        };
    }
    if !value.contains('T') {
        return if zoned {
            "2006-01-02Z07:00"
        } else {
            "2006-01-02"
        };
    }
    let mut colons = value.matches(':').count();
    if zoned && !value.contains(['z', 'Z']) {
        colons = colons.saturating_sub(1);
    }
    match (colons, zoned) {
        (0, false) => "2006-01-02T15",
        (1, false) => "2006-01-02T15:04",
        (_, false) => "2006-01-02T15:04:05",
        (0, true) => "2006-01-02T15Z07:00",
        (1, true) => "2006-01-02T15:04Z07:00",
        (_, true) => "2006-01-02T15:04:05Z07:00",
    }
}

/// Go's `time.Parse` for the layouts above.
fn read_layout(value: &str, layout: &str) -> Result<Timestamp, String> {
    const PIECES: [&str; 8] = ["2006", "01", "02", "15", "04", "05", ".999999999", "Z07:00"];
    let cannot = |rest: &str, piece: &str| {
        format!(
            "parsing time {} as {}: cannot parse {} as {}",
            quote(value),
            quote(layout),
            quote(rest),
            quote(piece)
        )
    };
    let out_of_range = |what: &str| format!("parsing time {}: {what} out of range", quote(value));
    let mut fields = [1_i64, 1, 1, 0, 0, 0];
    let (mut nanos, mut offset) = (0_i64, 0_i64);
    let (mut pattern, mut rest) = (layout, value);
    while !pattern.is_empty() {
        let Some(piece) = PIECES.iter().position(|piece| pattern.starts_with(piece)) else {
            let literal = &pattern[..1];
            rest = rest
                .strip_prefix(literal)
                .ok_or_else(|| cannot(rest, literal))?;
            pattern = &pattern[1..];
            continue;
        };
        pattern = &pattern[PIECES[piece].len()..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        match piece {
            6 => (nanos, rest) = fraction(rest),
            7 => (offset, rest) = zone(rest).ok_or_else(|| cannot(rest, PIECES[piece]))?,
            _ => {
                let width = match piece {
                    0 => 4,
                    3 if digits == 1 => 1,
                    _ => 2,
                };
                if digits < width {
                    return Err(cannot(rest, PIECES[piece]));
                }
                fields[piece] = rest[..width]
                    .parse()
                    .map_err(|_| cannot(rest, PIECES[piece]))?;
                rest = &rest[width..];
                let (name, range) = match piece {
                    1 => ("month", 1..=12),
                    3 => ("hour", 0..=23),
                    4 => ("minute", 0..=59),
                    5 => ("second", 0..=59),
                    _ => ("", i64::MIN..=i64::MAX),
                };
                if !range.contains(&fields[piece]) {
                    return Err(out_of_range(name));
                }
                if piece == 5 && !pattern.starts_with('.') {
                    (nanos, rest) = fraction(rest);
                }
            }
        }
    }
    if !rest.is_empty() {
        return Err(format!(
            "parsing time {}: extra text: {}",
            quote(value),
            quote(rest)
        ));
    }
    let small = |field: i64| i8::try_from(field).unwrap_or(-1);
    let year = i16::try_from(fields[0]).unwrap_or(-1);
    let time = civil::DateTime::new(
        year,
        small(fields[1]),
        small(fields[2]),
        small(fields[3]),
        small(fields[4]),
        small(fields[5]),
        i32::try_from(nanos).unwrap_or_default(),
    )
    .map_err(|_| out_of_range("day"))?;
    let utc = jiff::tz::Offset::UTC
        .to_timestamp(time)
        .map_err(|_| out_of_range("year"))?;
    utc.checked_sub(jiff::SignedDuration::from_secs(offset))
        .map_err(|_| out_of_range("year"))
}

/// A fraction of a second, if there is one: `.5`, `,25`.
fn fraction(rest: &str) -> (i64, &str) {
    let Some(digits) = rest.strip_prefix(['.', ',']) else {
        return (0, rest);
    };
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    if length == 0 {
        return (0, rest);
    }
    let nanos: String = digits[..length]
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    (nanos.parse().unwrap_or_default(), &digits[length..])
}

/// `Z` or `+01:30`, in seconds.
fn zone(rest: &str) -> Option<(i64, &str)> {
    if let Some(after) = rest.strip_prefix('Z') {
        return Some((0, after));
    }
    let text = rest.get(..6)?;
    let sign = match text.as_bytes() {
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return None,
    };
    let (hours, minutes) = text[1..].split_once(':')?;
    let number = |text: &str, max: i64| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i64>()
            .ok()
            .filter(|number| digits && *number <= max)
    };
    Some((
        sign * (number(hours, 24)? * 3600 + number(minutes, 59)? * 60),
        &rest[6..],
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        "2024-03-10T12:00:00.5Z".parse().expect("a time")
    }

    #[track_caller]
    fn check(value: &str, expected: &str) {
        let said = match parse(value, now()) {
            Ok(Some(time)) => rfc3339_nano(time),
            Ok(None) => String::new(),
            Err(error) => error.message,
        };
        assert_eq!(said, expected, "{value}");
    }

    #[test]
    fn every_form_is_read() {
        check("", "");
        check("0", "1970-01-01T00:00:00Z");
        check("1136073600", "2006-01-01T00:00:00Z");
        check("1136073600.000000001", "2006-01-01T00:00:00.000000001Z");
        check("1136073600.5", "2006-01-01T00:00:00.5Z");
        check("1136073600.1234567891", "2006-01-01T00:00:00.123456789Z");
        check("10m", "2024-03-10T11:50:00Z");
        check("-1h30m", "2024-03-10T13:30:00Z");
        check("1.5s", "2024-03-10T11:59:59Z");
        check("2006-01-02", "2006-01-02T00:00:00Z");
        check("2006-01-02+01:00", "2006-01-01T23:00:00Z");
        check("2006-01-02T15", "2006-01-02T15:00:00Z");
        check("2006-01-02T15:04", "2006-01-02T15:04:00Z");
        check("2006-01-02T15:04:05", "2006-01-02T15:04:05Z");
        check("2006-01-02T15:04:05.12Z", "2006-01-02T15:04:05.12Z");
        check("2006-01-02T15:04:05-02:00", "2006-01-02T17:04:05Z");
        check("2006-01-02T15:04Z", "2006-01-02T15:04:00Z");
        check("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z");
    }

    #[test]
    fn bad_times_are_refused_in_gos_words() {
        check(
            "yesterday",
            "failed to parse value as time or duration: \"yesterday\"",
        );
        check(
            "2006-13-01",
            "parsing time \"2006-13-01\": month out of range",
        );
        check(
            "2006-02-30",
            "parsing time \"2006-02-30\": day out of range",
        );
        check(
            "2006-01-2",
            "parsing time \"2006-01-2\" as \"2006-01-02\": cannot parse \"2\" as \"02\"",
        );
        check(
            "x-y",
            "parsing time \"x-y\" as \"2006-01-02\": cannot parse \"x-y\" as \"2006\"",
        );
        check(
            "2006-01-02 x",
            "parsing time \"2006-01-02 x\": extra text: \" x\"",
        );
        check(
            "99999999999999999",
            "failed to parse value as time or duration: \"99999999999999999\"",
        );
        let strict = parse_unix("5m").map_err(|error| error.message);
        assert_eq!(
            strict,
            Err("strconv.ParseInt: parsing \"5m\": invalid syntax".to_owned())
        );
    }

    proptest! {
        #[test]
        fn no_value_breaks_it(value in "[-+0-9TZz:.,hmsnuµ ]{0,24}") {
            let _ = parse(&value, now());
            let _ = parse_unix(&value);
        }

        #[test]
        fn what_is_printed_is_read(second in -60_000_000_000_i64..200_000_000_000, nano in 0..1_000_000_000_i32) {
            let time = Timestamp::new(second, nano).expect("in range");
            prop_assert_eq!(parse(&rfc3339_nano(time), now()).map_err(|e| e.message), Ok(Some(time)));
        }
    }
}
