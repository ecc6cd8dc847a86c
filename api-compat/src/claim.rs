//! What a container asks of its host: CPU and memory, read from a `HostConfig`.
//!
//! A claim is NanoCpus, else quota by period, else the number of CPUs in the set; and MemoryReservation, else Memory.
//! CPU shares are no number of CPUs.

use crate::json_view::View;

/// CPU and memory that a container is to find free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Claim {
    /// Billionths of a CPU; 0 claims none.
    pub cpu_nanos: u64,
    /// Bytes; 0 claims none.
    pub memory_bytes: u64,
}

impl Claim {
    /// The claim of a `HostConfig`. Values that make no sense claim nothing: the engine will refuse them.
    pub fn of_host_config(host: View<'_>) -> Self {
        Self::of(|key| host.get_folded(key).filter(says_something))
    }

    /// The claim of a `HostConfig` once it was updated: what the update leaves out, or has as zero, stays as it is.
    pub fn of_update(update: View<'_>, host: View<'_>) -> Self {
        Self::of(|key| {
            let asked = update.get_folded(key).filter(says_something);
            asked.or_else(|| host.get_folded(key))
        })
    }

    fn of<'a>(field: impl Fn(&'static str) -> Option<View<'a>>) -> Self {
        let number = |key| {
            let value = field(key).and_then(|value| value.i64()).unwrap_or_default();
            u64::try_from(value).unwrap_or_default()
        };
        let first = |values: [u64; 2]| {
            values
                .into_iter()
                .find(|value| *value > 0)
                .unwrap_or_default()
        };
        let cpus = field("CpusetCpus")
            .and_then(|set| set.str())
            .map_or(0, |set| cpus_in(&set));
        Self {
            cpu_nanos: first([
                first([
                    number("NanoCpus"),
                    by_period(number("CpuQuota"), number("CpuPeriod")),
                ]),
                cpus.saturating_mul(1_000_000_000),
            ]),
            memory_bytes: first([number("MemoryReservation"), number("Memory")]),
        }
    }
}

/// Whether a field is more than it is when it is left out.
fn says_something(value: &View<'_>) -> bool {
    value.i64().is_some_and(|number| number != 0)
        || value.str().is_some_and(|text| !text.is_empty())
}

/// A quota in CPU nanoseconds a second; the kernel's period is 100 ms if none is given.
fn by_period(quota: u64, period: u64) -> u64 {
    let period = if period == 0 { 100_000 } else { period };
    let nanos = u128::from(quota) * 1_000_000_000 / u128::from(period);
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

/// The number of CPUs in a set such as `0-2,5`; 0 if it is none: engines refuse it. Source: moby `ParseUintList`.
fn cpus_in(set: &str) -> u64 {
    let mut seen = std::collections::BTreeSet::new();
    for part in set.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last)) if first <= last => seen.extend(first..=last),
            _ => return 0,
        }
    }
    seen.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(host: &str, cpu_nanos: u64, memory_bytes: u64) {
        let view = View::parse(host.as_bytes()).expect("JSON");
        assert_eq!(
            Claim::of_host_config(view),
            Claim {
                cpu_nanos,
                memory_bytes
            },
            "{host}"
        );
    }

    #[test]
    fn a_claim_is_the_first_of_the_ways_to_say_it() {
        check("{}", 0, 0);
        check(
            r#"{"NanoCpus":1500000000,"CpuQuota":1,"Memory":64}"#,
            1_500_000_000,
            64,
        );
        check(
            r#"{"NanoCpus":0,"CpuQuota":50000,"CpuPeriod":0}"#,
            500_000_000,
            0,
        );
        check(r#"{"CpuQuota":50000,"CpuPeriod":25000}"#, 2_000_000_000, 0);
        check(
            r#"{"CpuQuota":-1,"CpusetCpus":"0-2,5,1"}"#,
            4_000_000_000,
            0,
        );
        for none in ["x", "1-42,,", "3-1", ""] {
            let host = format!(r#"{{"CpusetCpus":"{none}","CpuShares":512}}"#);
            check(&host, 0, 0);
        }
        check(r#"{"Memory":128,"MemoryReservation":64}"#, 0, 64);
        check(r#"{"memory":128,"nanocpus":7}"#, 7, 128);
        check(r#"{"Memory":"128","NanoCpus":null}"#, 0, 0);
        check(
            r#"{"CpuQuota":9223372036854775807,"CpuPeriod":1}"#,
            u64::MAX,
            0,
        );
        check("[]", 0, 0);
    }

    #[test]
    fn an_update_changes_what_it_says_and_nothing_else() {
        let check = |host: &str, update: &str, cpu_nanos: u64, memory_bytes: u64| {
            let config = View::parse(host.as_bytes()).expect("JSON");
            let asked = View::parse(update.as_bytes()).expect("JSON");
            assert_eq!(
                Claim::of_update(asked, config),
                Claim {
                    cpu_nanos,
                    memory_bytes
                },
                "{host} {update}"
            );
        };
        let both = r#"{"NanoCpus":500000000,"Memory":400,"MemoryReservation":100}"#;
        check(both, "{}", 500_000_000, 100);
        // The reservation is what counts, as in a create.
        check(
            both,
            r#"{"Memory":600,"MemoryReservation":0}"#,
            500_000_000,
            100,
        );
        check(both, r#"{"MemoryReservation":200}"#, 500_000_000, 200);
        check(
            both,
            r#"{"CpusetCpus":"0-3","NanoCpus":0}"#,
            500_000_000,
            100,
        );
        check(both, r#"{"NanoCpus":1000000000}"#, 1_000_000_000, 100);
        let quota = r#"{"CpuQuota":50000,"CpuPeriod":0}"#;
        check(quota, r#"{"CpuPeriod":50000}"#, 1_000_000_000, 0);
        check(quota, r#"{"CpuQuota":-1}"#, 0, 0);
        check(
            "{}",
            r#"{"Memory":64,"CpusetCpus":"0,1"}"#,
            2_000_000_000,
            64,
        );
        check(
            r#"{"CpusetCpus":"0,1"}"#,
            r#"{"CpusetCpus":""}"#,
            2_000_000_000,
            0,
        );
    }
}
