//! What a lie is.
//!
//! **Invariant**: the same numbers make the same lie of the same answer.

use rand::Rng;
use rand::seq::IndexedRandom as _;
use rand::seq::SliceRandom as _;
use serde_json::{Map, Value, json};

/// Of so many answers one is changed.
const ONE_IN: u32 = 4;

/// Numbers at the edges of what something can hold.
const NUMBERS: [f64; 5] = [
    -0.5,
    1e308,
    18_446_744_073_709_551_616.0,
    65_535.0,
    65_536.0,
];
const INTEGERS: [i64; 8] = [0, -1, 1, 1 << 31, 1 << 53, i64::MAX, i64::MIN, 99_999_999];
const TEXTS: [&str; 10] = [
    "",
    "\0",
    "/",
    "..",
    "sha256:",
    "9999-99-99T99:99:99Z",
    "0001-01-01T00:00:00Z",
    "<none>:<none>",
    "\u{1f600}",
    "Up 99999999999999999999 years (healthy)",
];

/// Another answer, now and then.
pub(super) fn changed(random: &mut impl Rng, answer: &[u8]) -> Option<Vec<u8>> {
    if !random.random_ratio(1, ONE_IN) {
        return None;
    }
    if random.random_ratio(1, 20) {
        return Some(answer[..random.random_range(0..=answer.len())].to_vec());
    }
    let value = serde_json::from_slice(answer).ok()?;
    let mut lie = if random.random_ratio(1, 20) {
        something(random)
    } else {
        twisted(random, value)
    }
    .to_string()
    .into_bytes();
    if answer.ends_with(b"\n") {
        lie.push(b'\n');
    }
    Some(lie)
}

fn twisted(random: &mut impl Rng, value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(twisted_members(random, members)),
        Value::Array(items) => Value::Array(twisted_items(random, items)),
        value if !random.random_ratio(1, 16) => value,
        Value::Bool(truth) => Value::Bool(!truth),
        Value::Number(_) if random.random_ratio(2, 3) => number(random),
        Value::String(_) if random.random_ratio(2, 3) => text(random),
        Value::Null | Value::Number(_) | Value::String(_) => something(random),
    }
}

fn twisted_members(random: &mut impl Rng, members: Map<String, Value>) -> Map<String, Value> {
    let mut twisted = Map::new();
    for (key, value) in members {
        match random.random_range(0..100) {
            0 | 1 => {}
            2 => drop(twisted.insert(TEXTS[0].to_owned(), value)),
            _ => drop(twisted.insert(key, self::twisted(random, value))),
        }
    }
    twisted
}

fn twisted_items(random: &mut impl Rng, items: Vec<Value>) -> Vec<Value> {
    let mut twisted: Vec<Value> = Vec::with_capacity(items.len());
    for item in items {
        twisted.push(self::twisted(random, item));
    }
    match random.random_range(0..40) {
        0 => twisted.clear(),
        1 | 2 => twisted.extend(twisted.first().cloned()),
        3 | 4 => twisted.shuffle(random),
        _ => {}
    }
    twisted
}

fn something(random: &mut impl Rng) -> Value {
    match random.random_range(0..7) {
        0 => Value::Null,
        1 => Value::Bool(true),
        2 => json!({}),
        3 => json!([]),
        4 => json!({"": ""}),
        5 => number(random),
        _ => text(random),
    }
}

fn number(random: &mut impl Rng) -> Value {
    if random.random_ratio(1, 3) {
        NUMBERS.choose(random).copied().into()
    } else {
        INTEGERS.choose(random).copied().into()
    }
}

fn text(random: &mut impl Rng) -> Value {
    TEXTS.choose(random).copied().into()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::changed;

    #[test]
    fn the_same_seed_tells_the_same_lies_and_some_are_told() {
        let answer = br#"{"Id":"abc","Created":1764000000,"Names":["/web"],"Labels":{"a":"b"}}"#;
        let tell = |seed| changed(&mut StdRng::seed_from_u64(seed), answer);
        let lies = (0..400).filter_map(|seed| {
            assert_eq!(tell(seed), tell(seed));
            tell(seed)
        });
        let told = lies.filter(|lie| lie != answer).count();
        assert!((20..120).contains(&told), "{told} of 400");
    }
}
