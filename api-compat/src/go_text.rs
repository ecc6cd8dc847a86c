//! How Go reads and prints small values: quoted strings, integers, switches. Error texts of the engine contain them.
//!
//! Source: Go `strconv`; moby 28.5.2 `httputils.BoolValue`.

/// `text` as Go's `%q` prints it.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\u{0}'..='\u{1f}' | '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Whether a query value switches something on.
pub(crate) fn is_true(value: &str) -> bool {
    !matches!(
        value.trim().to_lowercase().as_str(),
        "" | "0" | "no" | "false" | "none"
    )
}

/// Why a text is no number, or no switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadText {
    text: String,
    out_of_range: bool,
}

impl BadText {
    /// The error as the Go function `name` words it.
    pub(crate) fn with_function(&self, name: &str) -> String {
        let problem = if self.out_of_range {
            "value out of range"
        } else {
            "invalid syntax"
        };
        format!("{name}: parsing {}: {problem}", quote(&self.text))
    }
}

/// Go's `strconv.ParseInt(text, 10, 64)`: an optional sign, then digits only.
pub(crate) fn parse_int(text: &str) -> Result<i64, BadText> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse()
        .map_err(|error: std::num::ParseIntError| BadText {
            text: text.to_owned(),
            out_of_range: matches!(error.kind(), PosOverflow | NegOverflow),
        })
}

/// Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Result<bool, BadText> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(BadText {
            text: text.to_owned(),
            out_of_range: false,
        }),
    }
}

/// Go's `strconv.ParseUint(text, 10, 16)`: digits only, no sign.
pub(crate) fn parse_port(text: &str) -> Result<u16, BadText> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| BadText {
        text: text.to_owned(),
        out_of_range: digits,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_go_quotes() {
        for (text, quoted) in [
            ("a\"b\\", r#""a\"b\\""#),
            ("\n\0\u{7f}ü", r#""\n\x00\x7fü""#),
            ("\u{85}", r#""\u0085""#),
        ] {
            assert_eq!(quote(text), quoted);
        }
    }

    #[test]
    fn numbers_have_a_sign_or_none() {
        assert_eq!(parse_int("+5"), Ok(5));
        assert_eq!(parse_port("80"), Ok(80));
        let port =
            |text| parse_port(text).map_err(|error| error.with_function("strconv.ParseUint"));
        assert_eq!(
            port("70000"),
            Err("strconv.ParseUint: parsing \"70000\": value out of range".to_owned())
        );
        assert_eq!(
            port("+80"),
            Err("strconv.ParseUint: parsing \"+80\": invalid syntax".to_owned())
        );
        assert_eq!(
            port(""),
            Err("strconv.ParseUint: parsing \"\": invalid syntax".to_owned())
        );
    }
}
