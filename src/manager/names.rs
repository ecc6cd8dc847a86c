//! Names for containers that were given none: an adjective and a surname, as engines do it.

/// What a container may be.
const ADJECTIVES: [&str; 64] = [
    "able", "agile", "amber", "ample", "apt", "bold", "brave", "bright", "brisk", "calm", "candid",
    "clear", "clever", "cosy", "crisp", "daring", "deft", "eager", "early", "fair", "fleet",
    "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "hardy", "honest", "humble",
    "jolly", "keen", "kind", "lively", "loyal", "lucid", "lucky", "mellow", "merry", "mild",
    "modest", "neat", "nimble", "noble", "patient", "placid", "plucky", "prompt", "proud", "quick",
    "quiet", "ready", "rapid", "serene", "sharp", "silent", "steady", "sturdy", "sunny", "swift",
    "tidy", "vivid", "wise",
];

/// Whom it is called after: people of ships, charts and seas.
const SURNAMES: [&str; 64] = [
    "amundsen",
    "anson",
    "baffin",
    "banks",
    "barents",
    "bass",
    "beaufort",
    "bering",
    "bligh",
    "bowditch",
    "cabot",
    "cartier",
    "champlain",
    "cheng",
    "columbus",
    "cook",
    "dampier",
    "davis",
    "dias",
    "drake",
    "dumont",
    "earle",
    "eriksson",
    "flinders",
    "franklin",
    "frobisher",
    "gama",
    "halley",
    "harrison",
    "hawkins",
    "hudson",
    "humboldt",
    "hyde",
    "ibnmajid",
    "jansz",
    "juan",
    "kruzenshtern",
    "lander",
    "laperouse",
    "magellan",
    "malaspina",
    "maury",
    "mercator",
    "nansen",
    "nares",
    "nelson",
    "nobile",
    "parry",
    "peary",
    "polo",
    "pytheas",
    "quiros",
    "raleigh",
    "ross",
    "scott",
    "shackleton",
    "slocum",
    "tasman",
    "torres",
    "tupaia",
    "vancouver",
    "vespucci",
    "weddell",
    "zheng",
];

/// A name made of these dice; from the third attempt on it ends in a number, so that there is no end of them.
pub(super) fn name(dice: [u8; 4], attempt: u32) -> String {
    let adjective = ADJECTIVES[usize::from(dice[0]) % ADJECTIVES.len()];
    let surname = SURNAMES[usize::from(dice[1]) % SURNAMES.len()];
    if attempt < 2 {
        return format!("{adjective}_{surname}");
    }
    format!(
        "{adjective}_{surname}{}",
        u16::from_be_bytes([dice[2], dice[3]])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_engines_accept() {
        for first in 0..=255 {
            for attempt in [0, 2] {
                let name = name([first, 255 - first, 1, 2], attempt);
                assert!(api_compat::create::check_name(&name).is_ok(), "{name}");
            }
        }
    }
}
