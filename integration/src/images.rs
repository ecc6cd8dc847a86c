//! Images made for a test: as large as it needs, and like no others.

use anyhow::{Context, Result};

use crate::lab::Host;

/// A tar archive ends with so many zeros.
const END: usize = 1024;
const BLOCK: usize = 512;

/// Makes an image with one file of so many bytes on this host, and on no other.
pub fn make(host: &Host, name: &str, bytes: usize) -> Result<()> {
    let folder = tempfile::tempdir().context("no folder for temporary files")?;
    let file = folder.path().join("it.tar");
    std::fs::write(&file, archive("file", &noise(bytes))).context("cannot write an archive")?;
    host.docker(&["import", &file.display().to_string(), name])
        .map(drop)
}

/// So many printable bytes of which no part is like another.
#[must_use]
pub fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b' ' + u8::try_from(state % 90).unwrap_or_default()
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// A tar archive with one file.
#[must_use]
pub fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut head = [0u8; BLOCK];
    let mut field =
        |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
    field(0, name);
    field(100, "0000644");
    field(108, "0000000");
    field(116, "0000000");
    field(124, &format!("{:011o}", content.len()));
    field(136, "00000000000");
    // The sum counts its own place as blanks.
    field(148, "        ");
    field(156, "0");
    field(257, "ustar\0");
    field(263, "00");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut all = head.to_vec();
    all.extend_from_slice(content);
    all.resize(all.len().next_multiple_of(BLOCK) + END, 0);
    all
}
