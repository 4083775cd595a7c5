//! Batches in parts that fit a teacher's messages.
//!
//! A request carries a batch's pixels and an answer its soft targets, and each side refuses messages that are
//! too large. So a batch is split where it would not fit, and its answers are put together again.

use std::{num::NonZero, ops::Range};

use soft_targets::{Encoding, SoftTargets};

/// Fewest images that a teacher is asked for where bits of batches of unlike sizes meet.
///
/// libtorch computes small batches in other ways: with 2.11 on AVX-512, convolutions and linear layers in
/// f32 give an image the same bits in any batch of 16 or more, whatever the other images, and other
/// last bits in batches of 1, 2 and 5. A recording and a run cut the images into batches
/// differently, so both fill small ones up, and no larger one is split into smaller parts.
pub const FEWEST_IMAGES: usize = 32;

/// A batch of more images than that may be split, into parts of [`FEWEST_IMAGES`] or more.
const ALWAYS_WHOLE: usize = 2 * FEWEST_IMAGES;

/// Largest answer that is read: 1 GiB, as large as a teacher's `grpc.max_message_bytes` may be.
pub(crate) const MAX_ANSWER_BYTES: usize = 1 << 30;

/// More than a message has besides pixels or soft targets: id, shape, and the keys and lengths of fields.
const ENVELOPE_BYTES: u64 = 128;

/// What the messages of one image take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImageBytes {
    request: u64,
    answer: u64,
}

impl ImageBytes {
    /// For u8 images of `shape` and an answer of `classes` in `encoding`.
    pub fn new(shape: [usize; 3], encoding: Encoding, classes: usize) -> Self {
        Self {
            request: shape.iter().map(|size| *size as u64).product(),
            answer: encoding.sample_bytes(classes).total() as u64,
        }
    }

    /// Images for which a request and its answer fit messages of at most `max_message_bytes`, the teacher's
    /// limit, and answers that are read here. A teacher that tells no limit is believed to have none.
    pub fn fitting(self, max_message_bytes: Option<NonZero<u64>>) -> usize {
        let teacher = max_message_bytes.map_or(u64::MAX, NonZero::get);
        let images = |limit: u64, image: u64| limit.saturating_sub(ENVELOPE_BYTES) / image.max(1);
        let request = images(teacher, self.request);
        let answer = images(teacher.min(MAX_ANSWER_BYTES as u64), self.answer);
        usize::try_from(request.min(answer)).unwrap_or(usize::MAX)
    }

    /// Whether batches of `images` can be asked for where messages hold `fitting` of them.
    ///
    /// # Errors
    /// The bytes that a message would have to hold.
    pub fn check(self, images: usize, fitting: usize) -> Result<(), u64> {
        let whole = images.min(ALWAYS_WHOLE);
        if whole <= fitting {
            return Ok(());
        }
        Err(whole as u64 * self.request.max(self.answer) + ENVELOPE_BYTES)
    }
}

/// Splits a batch of `images` into as few parts as fit messages of `fitting` images, of like sizes.
pub(crate) fn split(images: usize, fitting: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = images.div_ceil(fitting.max(1)).max(1);
    (0..parts).map(move |part| part * images / parts..(part + 1) * images / parts)
}

/// The answers to the parts of a batch.
#[derive(Debug)]
pub(crate) struct Answers {
    parts: Vec<Option<SoftTargets>>,
    missing: usize,
}

impl Answers {
    /// Of a batch of `parts`, none of which is answered.
    pub fn new(parts: usize) -> Self {
        Self {
            parts: vec![None; parts],
            missing: parts,
        }
    }

    /// Takes the answer to one part; gives that to the whole batch once it is complete.
    pub fn add(&mut self, part: usize, targets: SoftTargets) -> Option<SoftTargets> {
        if self.parts[part].replace(targets).is_none() {
            self.missing -= 1;
        }
        if self.missing > 0 {
            return None;
        }
        let mut parts: Vec<SoftTargets> = self.parts.drain(..).flatten().collect();
        match parts.len() {
            // Its bytes are shared with the message, not copied.
            1 => parts.pop(),
            _ => SoftTargets::concat(&parts),
        }
    }
}

#[cfg(test)]
mod tests {
    use soft_targets::Encoder;

    use super::*;

    #[test]
    fn request_and_answer_must_fit() {
        let images = |shape, encoding, classes, limit| {
            ImageBytes::new(shape, encoding, classes).fitting(NonZero::new(limit))
        };
        let mib = 1 << 20;
        // 784 bytes of pixels, 40 of logits.
        assert_eq!(images([1, 28, 28], Encoding::F32, 10, mib), 1337);
        // 87,364 bytes of logits.
        assert_eq!(images([1, 28, 28], Encoding::F32, 21_841, 64 * mib), 768);
        assert_eq!(images([1, 28, 28], Encoding::F16, 21_841, 64 * mib), 1536);
        // A teacher that tells nothing: what is read here.
        assert_eq!(images([1, 28, 28], Encoding::F32, 21_841, 0), 12_290);
        assert_eq!(images([3, 4096, 4096], Encoding::F32, 10, 4096), 0);
    }

    #[test]
    fn parts_are_all_of_a_batch_fit_and_are_never_small() {
        for (images, fitting) in [
            (1, 1),
            (5, 7),
            (64, 64),
            (65, 64),
            (1024, 768),
            (1000, 70),
            (129, 64),
        ] {
            let parts: Vec<_> = split(images, fitting).collect();
            assert!(parts.iter().flat_map(Clone::clone).eq(0..images));
            assert_eq!(parts.len(), images.div_ceil(fitting));
            for part in &parts {
                assert!(part.len() <= fitting, "{images} {fitting}: {part:?}");
                assert!(
                    parts.len() == 1 || part.len() >= FEWEST_IMAGES,
                    "{images} {fitting}: {part:?}"
                );
            }
        }
    }

    #[test]
    fn batches_are_refused_whose_parts_would_be_small() {
        let image = ImageBytes::new([1, 2, 2], Encoding::F32, 10);
        assert_eq!(image.check(1000, 64), Ok(()));
        assert_eq!(image.check(20, 20), Ok(()));
        assert_eq!(image.check(1000, 63), Err(64 * 40 + 128));
        assert_eq!(image.check(20, 19), Err(20 * 40 + 128));
        assert_eq!(image.check(1, 0), Err(40 + 128));
    }

    #[test]
    fn answers_are_put_together_in_the_order_of_the_parts() {
        let encode = |first: f32| {
            let logits = [first, 0.0, first + 1.0, 0.5];
            Encoder::default()
                .encode(Encoding::F32, &logits, 2)
                .unwrap()
        };
        let mut answers = Answers::new(2);
        assert_eq!(answers.add(1, encode(10.0)), None);
        assert_eq!(answers.add(1, encode(20.0)), None, "twice is not both");
        let whole = answers.add(0, encode(1.0)).unwrap();
        let logits: Vec<f32> = whole.logits().collect();
        assert_eq!(logits, [1.0, 0.0, 2.0, 0.5, 20.0, 0.0, 21.0, 0.5]);
        assert_eq!(Answers::new(1).add(0, encode(3.0)), Some(encode(3.0)));
    }
}
