//! Patterns as Go's `path.Match` reads them: `*` and `?` stop at slashes, `[a-z]` and `[^a]` are classes, `\` escapes.
//!
//! **Invariant**: matching takes no longer than the product of both lengths.

/// The pattern is malformed; the words are Go's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// A pattern, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Star,
    Any,
    One(char),
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// Reads a pattern.
    pub fn new(pattern: &str) -> Result<Self, BadPattern> {
        let mut chars = pattern.chars().peekable();
        let mut pieces = Vec::new();
        while let Some(c) = chars.next() {
            pieces.push(match c {
                '*' => Piece::Star,
                '?' => Piece::Any,
                '\\' => Piece::One(chars.next().ok_or(BadPattern)?),
                '[' => {
                    let negated = chars.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
                        let low = class_char(&mut chars)?;
                        let high = match chars.next_if_eq(&'-') {
                            Some(_) => class_char(&mut chars)?,
                            None => low,
                        };
                        ranges.push((low, high));
                    }
                    Piece::Class { negated, ranges }
                }
                other => Piece::One(other),
            });
        }
        Ok(Self(pieces))
    }

    /// Whether the whole of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut piece, mut at) = (0, 0);
        // Where to go on if what follows the last star does not match: the star takes one more character.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match self.0.get(piece) {
                Some(Piece::Star) => {
                    retry = Some((piece, at));
                    piece += 1;
                    continue;
                }
                Some(other) if text.get(at).is_some_and(|c| other.takes(*c)) => {
                    piece += 1;
                    at += 1;
                    continue;
                }
                None if at == text.len() => return true,
                _ => {}
            }
            match retry {
                Some((star, taken)) if text.get(taken).is_some_and(|c| *c != '/') => {
                    retry = Some((star, taken + 1));
                    (piece, at) = (star + 1, taken + 1);
                }
                _ => return false,
            }
        }
    }
}

impl Piece {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Star => false,
            Self::Any => c != '/',
            Self::One(one) => *one == c,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

fn class_char(chars: &mut impl Iterator<Item = char>) -> Result<char, BadPattern> {
    match chars.next() {
        None | Some('-' | ']') => Err(BadPattern),
        Some('\\') => chars.next().ok_or(BadPattern),
        Some(other) => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(pattern: &str, text: &str, expected: Result<bool, BadPattern>) {
        let said = Glob::new(pattern).map(|glob| glob.is_match(text));
        assert_eq!(said, expected, "{pattern} {text}");
    }

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, text, expected) in [
            ("busybox", "busybox", true),
            ("busy*", "busybox:latest", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("a*b*c", "abxbyc", true),
            ("a*b*c", "abxbyd", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a]", "/", true),
            ("\\*", "*", true),
            ("", "", true),
            ("*", "", true),
            ("a*", "b", false),
        ] {
            check(pattern, text, Ok(expected));
        }
        for bad in ["[", "[]a]", "[a", "a\\", "[-x]", "[a-"] {
            check(bad, "a", Err(BadPattern));
        }
    }

    proptest! {
        #[test]
        fn no_pattern_breaks_it(pattern in "[a*?\\[\\]^\\\\/-]{0,12}", text in "[ab/-]{0,12}") {
            let _ = Glob::new(&pattern).map(|glob| glob.is_match(&text));
        }
    }
}
