//! The boundaries of the messages in a gRPC body.

/// Length of the prefix of each message: a compression flag and the message's length
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
const PREFIX: usize = 5;

/// Tracks message boundaries in a body that arrives in arbitrary pieces.
#[derive(Debug, Default)]
pub(super) struct Framing {
    /// Bytes of the prefix that have arrived.
    prefix: usize,
    /// Bytes of the message that have not arrived; while the prefix arrives, the known part of the length.
    missing: u32,
}

impl Framing {
    /// Consumes the next `data`, and returns whether a message ends in it.
    pub(super) fn follow(&mut self, mut data: &[u8]) -> bool {
        let mut ended = false;
        while let Some((byte, after)) = data.split_first() {
            if self.prefix < PREFIX {
                // Most significant byte first; the flag, before all of them, is shifted out.
                self.missing = (self.missing << 8) | u32::from(*byte);
                self.prefix += 1;
                data = after;
            } else {
                let arrived = data.len().min(self.missing as usize);
                self.missing -= arrived as u32;
                data = &data[arrived..];
            }
            if self.prefix == PREFIX && self.missing == 0 {
                *self = Self::default();
                ended = true;
            }
        }
        ended
    }

    /// Whether a message has begun and not ended.
    pub(super) fn is_within_message(&self) -> bool {
        self.prefix > 0
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(flag: u8, length: usize) -> Vec<u8> {
        let prefix = (length as u32).to_be_bytes();
        [&[flag], &prefix[..], &vec![0xff; length]].concat()
    }

    #[test]
    fn message_ends_do_not_depend_on_the_pieces() {
        let lengths = [0, 1, 300, 70_000];
        let messages = lengths.map(|length| framed(1, length)).concat();
        let ends = lengths.iter().scan(0, |end, length| {
            *end += PREFIX + length;
            Some(*end)
        });
        let ends: Vec<_> = ends.collect();
        for piece in [1, 2, 5, 6, 1000, messages.len()] {
            let mut framing = Framing::default();
            let mut come = 0;
            for data in messages.chunks(piece) {
                let before = come;
                come += data.len();
                let expected = ends.iter().any(|end| (before + 1..=come).contains(end));
                assert_eq!(framing.follow(data), expected, "{come} by {piece}");
                let within = !ends.contains(&come);
                assert_eq!(framing.is_within_message(), within, "{come} by {piece}");
            }
        }
    }

    #[test]
    fn the_longest_message_is_only_a_promise() {
        let mut framing = Framing::default();
        assert!(!framing.follow(&[0, 0xff, 0xff, 0xff, 0xff]));
        assert!(!framing.follow(&[7; 100]));
        assert!(!framing.follow(&[]));
        assert!(framing.is_within_message());
    }
}
