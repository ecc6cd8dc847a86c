//! What the text of a setting means, or what would have been right.

use std::time::Duration;

use api_compat::version::ApiVersion;

use super::{LogFormat, MissingBind, Names};
use crate::balance::Scope;
use crate::manager::SurviveNodeLoss;
use crate::scheduler::{NoStrategy, PullTo, Strategy};
use crate::state::RandomPorts;

pub(super) fn names(text: &str) -> Result<Names, String> {
    match text {
        "bare" => Ok(Names::Bare),
        "node" => Ok(Names::Node),
        _ => Err(format!("`{text}` must be `bare` or `node`")),
    }
}

pub(super) fn pull_to(text: &str) -> Result<PullTo, String> {
    match text.parse() {
        Ok(0) | Err(_) if text != "all" => Err(format!(
            "`{text}` must be `all` or the number of nodes, 1 or more"
        )),
        Ok(count) => Ok(PullTo::Nodes(count)),
        Err(_) => Ok(PullTo::All),
    }
}

pub(super) fn entry_point(text: &str) -> Result<Scope, String> {
    match text {
        "off" => Ok(Scope::Off),
        "services" => Ok(Scope::Services),
        "all" => Ok(Scope::All),
        _ => Err(format!("`{text}` must be `all`, `services` or `off`")),
    }
}

pub(super) fn random_ports(text: &str) -> Result<RandomPorts, String> {
    let range = text.split_once('-').and_then(|(first, last)| {
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first > 0 && first <= last).then_some(RandomPorts { first, last })
    });
    range.ok_or_else(|| format!("`{text}` is no range of ports such as 10000-29999"))
}

pub(super) fn missing_bind(text: &str) -> Result<MissingBind, String> {
    match text {
        "refuse" => Ok(MissingBind::Refuse),
        "create" => Ok(MissingBind::Create),
        _ => Err(format!("`{text}` must be `refuse` or `create`")),
    }
}

/// Reads a number of CPUs, `0.5`, as billionths.
pub fn read_cpus(text: &str) -> Result<u64, String> {
    decimal(text, 9).ok_or_else(|| format!("`{text}` is no number of CPUs such as 2 or 0.5"))
}

pub(super) fn survive(text: &str) -> Result<SurviveNodeLoss, String> {
    match text {
        "off" => Ok(SurviveNodeLoss::Off),
        "warn" => Ok(SurviveNodeLoss::Warn),
        "refuse" => Ok(SurviveNodeLoss::Refuse),
        _ => Err(format!("`{text}` must be `off`, `warn` or `refuse`")),
    }
}

pub(super) fn overcommit(text: &str) -> Result<u64, String> {
    let read = decimal(text, 3).filter(|share| *share <= 100_000);
    read.ok_or_else(|| format!("`{text}` must be a share from 0 to 100, as in 0.05 for 5 % more"))
}

/// A decimal number, in units of its last allowed place.
pub(super) fn decimal(text: &str, places: usize) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let given = !(whole.is_empty() && part.is_empty());
    let good = given && digits(whole) && digits(part) && part.len() <= places;
    good.then(|| format!("{whole}{part:0<places$}").parse().ok())?
}

pub(super) fn strategy(text: &str) -> Result<Strategy, String> {
    text.parse().map_err(|error: NoStrategy| error.to_string())
}

pub(super) fn slots(text: &str) -> Result<u32, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| format!("`{text}` must be a number of containers, 1 or more"))
}

pub(super) fn cluster_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 253 || text.chars().any(char::is_control) {
        return Err("the name must have 1 to 253 characters, all printable".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("`{text}` must be `text` or `json`")),
    }
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!(
            "`{text}` is neither a level (error, warn, info, debug, trace) nor a filter: {error}"
        )),
    }
}

/// `10` seconds, `1500ms`, `1m 30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text)
        .map_err(|_| format!("`{text}` is no time such as 10, 500ms or 1m 30s"))
}

/// Probes go out each second: less than two of them is no ground for a verdict.
pub(super) fn node_timeout(text: &str) -> Result<Duration, String> {
    const LEAST: Duration = Duration::from_secs(2);
    match duration(text)? {
        timeout if timeout < LEAST => Err(format!(
            "{text} is too short: nodes are asked once a second; give 2s or more"
        )),
        timeout => Ok(timeout),
    }
}

/// Reads an amount of bytes: `16MiB`, `1.5g`, `4096`. Each unit is 1024 of the one before.
///
/// Source: docker/go-units `RAMInBytes`, by which the docker CLI reads `--memory`. Stricter: nothing is no size.
pub fn read_size(text: &str) -> Result<usize, String> {
    let wrong = || format!("`{text}` is no size such as 16MiB, 1.5g or 4096");
    let digits = text.trim_end_matches(|c: char| !(c.is_ascii_digit() || c == '.'));
    let unit = text[digits.len()..].trim().to_ascii_lowercase();
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(wrong()),
    };
    let bytes = whole_part(digits, 1 << shift).and_then(|bytes| usize::try_from(bytes).ok());
    bytes.filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

/// A decimal number times `unit`, without what is left behind the point.
fn whole_part(number: &str, unit: u128) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    // More places make no difference that anybody means.
    let part = part.get(..12).unwrap_or(part);
    let scaled: u128 = format!("{whole}{part}").parse().ok()?;
    let places = u32::try_from(part.len()).ok()?;
    Some(scaled.checked_mul(unit)? / 10_u128.pow(places))
}

pub(super) fn api_version(text: &str) -> Result<ApiVersion, String> {
    let (min, max) = (ApiVersion::MIN, ApiVersion::MAX);
    ApiVersion::parse(text)
        .filter(|version| (min..=max).contains(version))
        .ok_or_else(|| format!("`{text}` is not an API version from {min} to {max}"))
}
