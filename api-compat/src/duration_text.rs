//! How long ago, in the engine's words: `About a minute`, `47 hours`, `2 days`.
//!
//! Source: docker/go-units `HumanDuration`. Hours are rounded to the nearest before they become days, weeks and months;
//! years are not.

use std::fmt;

/// A duration in whole seconds (rounded towards zero) that prints as the engine prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(
    /// Seconds; negative ones are less than a second.
    pub i64,
);

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0;
        let minutes = seconds / 60;
        let hours = seconds.saturating_add(1800) / 3600;
        match seconds {
            ..1 => f.write_str("Less than a second"),
            1 => f.write_str("1 second"),
            2..60 => write!(f, "{seconds} seconds"),
            60..120 => f.write_str("About a minute"),
            120..3600 => write!(f, "{minutes} minutes"),
            _ => match hours {
                ..2 => f.write_str("About an hour"),
                2..48 => write!(f, "{hours} hours"),
                48..336 => write!(f, "{} days", hours / 24),
                336..1440 => write!(f, "{} weeks", hours / 24 / 7),
                1440..17520 => write!(f, "{} months", hours / 24 / 30),
                _ => write!(f, "{} years", seconds / 3600 / 24 / 365),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_threshold_is_where_the_engine_has_it() {
        const HOUR: i64 = 3600;
        const DAY: i64 = 24 * HOUR;
        for (seconds, text) in [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (2, "2 seconds"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (HOUR - 1, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1799, "About an hour"),
            (HOUR + 1800, "2 hours"),
            (47 * HOUR + 1799, "47 hours"),
            (47 * HOUR + 1800, "2 days"),
            (14 * DAY - 1801, "13 days"),
            (14 * DAY - 1800, "2 weeks"),
            (35 * DAY, "5 weeks"),
            (60 * DAY - 1801, "8 weeks"),
            (60 * DAY, "2 months"),
            (730 * DAY - 1801, "24 months"),
            (730 * DAY - 1800, "1 years"),
            (730 * DAY, "2 years"),
            (i64::MAX, "292471208677 years"),
        ] {
            assert_eq!(HumanDuration(seconds).to_string(), text, "{seconds}");
        }
    }
}
