//! `--platform` as an engine reads it: `linux/amd64`, `linux/arm64/v8`, `amd64`, and other names for the same.
//!
//! Source: containerd `platforms.Parse`, of which engines use the operating system and the architecture to choose an image.
//!
//! **Invariant**: what an engine would not take, or take for its own platform, is no wish that nodes could be told apart by.

/// The operating system and the architecture that a text asks for, in Docker's words.
pub fn asked(text: &str) -> Option<(String, String)> {
    let text = text.to_ascii_lowercase();
    let parts: Vec<&str> = text.split('/').collect();
    let is_word = |part: &&str| {
        let of_word = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        !part.is_empty() && part.chars().all(of_word)
    };
    if !parts.iter().all(is_word) {
        return None;
    }
    match parts.as_slice() {
        [arch] => {
            let arch = architecture(arch);
            let is_known = ARCHITECTURES.contains(&arch);
            is_known.then(|| ("linux".to_owned(), arch.to_owned()))
        }
        [os, arch] | [os, arch, _] => Some((system(os).to_owned(), architecture(arch).to_owned())),
        _ => None,
    }
}

/// Those that engines run on.
const ARCHITECTURES: [&str; 9] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x",
];

fn system(name: &str) -> &str {
    match name {
        "macos" => "darwin",
        other => other,
    }
}

/// The name that Docker has for an architecture.
fn architecture(name: &str) -> &str {
    match name {
        "i386" => "386",
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "armhf" | "armel" => "arm",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_goes_by_several_names() {
        let check = |text: &str, expected: Option<&str>| {
            let said = asked(text).map(|(os, arch)| format!("{os}/{arch}"));
            assert_eq!(said.as_deref(), expected, "{text}");
        };
        check("linux/amd64", Some("linux/amd64"));
        check("linux/amd64/v2", Some("linux/amd64"));
        check("Linux/x86_64", Some("linux/amd64"));
        check("linux/x86-64", Some("linux/amd64"));
        check("linux/aarch64", Some("linux/arm64"));
        check("linux/arm64/v8", Some("linux/arm64"));
        check("linux/armhf", Some("linux/arm"));
        check("linux/arm/v7", Some("linux/arm"));
        check("linux/i386", Some("linux/386"));
        check("arm64", Some("linux/arm64"));
        check("x86_64", Some("linux/amd64"));
        check("windows/amd64", Some("windows/amd64"));
        check("macos/arm64", Some("darwin/arm64"));
        check("linux/other", Some("linux/other"));
        // Any engine's own, or nothing that an engine takes.
        for none in [
            "",
            "linux",
            "foo",
            "linux/",
            "/amd64",
            "a/b/c/d",
            "linux/am d64",
        ] {
            check(none, None);
        }
    }
}
