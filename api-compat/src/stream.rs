//! The frames of a multiplexed stream: attach, exec and logs of containers without a terminal.
//!
//! A frame is eight bytes, `[stream, 0, 0, 0, length as big-endian u32]`, and then so many bytes.
//! Source: moby 28.5.2 `pkg/stdcopy`.

/// Which stream a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Written back by nobody, but legal.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// An error of the engine in the middle of a stream.
    System,
}

/// The length of a header.
pub const HEADER_LENGTH: usize = 8;

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whose bytes follow.
    pub stream: Stream,
    /// How many follow.
    pub length: u32,
}

/// The first byte of a header names no stream: this is no multiplexed stream, or we lost our place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unrecognized stream: {0}")]
pub struct UnknownStream(pub u8);

impl Header {
    /// Reads a header.
    pub fn decode(bytes: [u8; HEADER_LENGTH]) -> Result<Self, UnknownStream> {
        let [stream, _, _, _, a, b, c, d] = bytes;
        let stream = match stream {
            0 => Stream::Stdin,
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            3 => Stream::System,
            other => return Err(UnknownStream(other)),
        };
        Ok(Self {
            stream,
            length: u32::from_be_bytes([a, b, c, d]),
        })
    }

    /// The bytes of the header.
    pub fn encode(self) -> [u8; HEADER_LENGTH] {
        let stream = match self.stream {
            Stream::Stdin => 0,
            Stream::Stdout => 1,
            Stream::Stderr => 2,
            Stream::System => 3,
        };
        let [a, b, c, d] = self.length.to_be_bytes();
        [stream, 0, 0, 0, a, b, c, d]
    }
}

/// Takes a stream apart as its bytes arrive, however they are cut, without keeping them.
#[derive(Debug, Clone, Default)]
pub struct Decoder {
    header: [u8; HEADER_LENGTH],
    filled: usize,
    frame: Option<Header>,
}

/// A part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Whose bytes these are.
    pub stream: Stream,
    /// The bytes; empty only for an empty frame.
    pub bytes: &'a [u8],
    /// Whether the frame ends with them.
    pub ends_frame: bool,
}

impl Decoder {
    /// Takes what belongs together from the front of `input`; none when it is used up.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Chunk<'a>>, UnknownStream> {
        let Some(frame) = self.frame else {
            let taken = input.len().min(HEADER_LENGTH - self.filled);
            let (front, rest) = input.split_at(taken);
            self.header[self.filled..self.filled + taken].copy_from_slice(front);
            self.filled += taken;
            *input = rest;
            if self.filled < HEADER_LENGTH {
                return Ok(None);
            }
            self.filled = 0;
            let frame = Header::decode(self.header)?;
            if frame.length == 0 {
                return Ok(Some(Chunk {
                    stream: frame.stream,
                    bytes: &[],
                    ends_frame: true,
                }));
            }
            self.frame = Some(frame);
            return self.next(input);
        };
        if input.is_empty() {
            return Ok(None);
        }
        let taken = input
            .len()
            .min(usize::try_from(frame.length).unwrap_or(usize::MAX));
        let (bytes, rest) = input.split_at(taken);
        *input = rest;
        let left = frame.length - u32::try_from(taken).unwrap_or(frame.length);
        self.frame = (left > 0).then_some(Header {
            length: left,
            ..frame
        });
        Ok(Some(Chunk {
            stream: frame.stream,
            bytes,
            ends_frame: left == 0,
        }))
    }

    /// Whether the stream may end here: between two frames.
    pub fn is_between_frames(&self) -> bool {
        self.frame.is_none() && self.filled == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(number: u8) -> Stream {
        Header::decode([number, 0, 0, 0, 0, 0, 0, 0])
            .expect("a stream")
            .stream
    }

    #[test]
    fn a_header_is_eight_bytes() {
        let header = Header {
            stream: Stream::Stderr,
            length: 0x0102_0304,
        };
        assert_eq!(header.encode(), [2, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(Header::decode(header.encode()), Ok(header));
        assert_eq!(
            Header::decode(*b"GET / HT").map_err(|error| error.to_string()),
            Err("unrecognized stream: 71".into())
        );
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(
            frames in proptest::collection::vec((0..4_u8, proptest::collection::vec(any::<u8>(), 0..20)), 0..8),
            cut in 1..30_usize,
        ) {
            let mut wire = Vec::new();
            for (number, bytes) in &frames {
                wire.extend(Header { stream: stream(*number), length: bytes.len() as u32 }.encode());
                wire.extend(bytes);
            }
            let mut decoder = Decoder::default();
            let (mut seen, mut open) = (Vec::new(), Vec::new());
            for mut piece in wire.chunks(cut) {
                while let Some(chunk) = decoder.next(&mut piece).expect("known streams") {
                    open.extend_from_slice(chunk.bytes);
                    if chunk.ends_frame {
                        seen.push((chunk.stream, std::mem::take(&mut open)));
                    }
                }
            }
            let sent: Vec<_> = frames.into_iter().map(|(number, bytes)| (stream(number), bytes)).collect();
            prop_assert_eq!(seen, sent);
            prop_assert!(decoder.is_between_frames());
        }

        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(0..6_u8, 0..64)) {
            let (mut decoder, mut input) = (Decoder::default(), bytes.as_slice());
            while let Ok(Some(_)) = decoder.next(&mut input) {}
        }
    }
}
