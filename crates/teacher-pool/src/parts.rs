//! Splits batches into parts that fit into a teacher's messages, and joins their answers.
//!
//! A request carries the pixels of a batch, an answer its soft targets, and each side rejects messages that are too
//! large.

use std::{num::NonZero, ops::Range};

use soft_targets::{Encoding, SoftTargets};

/// The smallest request for which an image's logits do not depend on the number of images in the request.
///
/// libtorch computes small batches differently: with version 2.11 on AVX-512, convolutions and linear layers in f32 give
/// an image the same bits in every batch of 16 or more, whatever the other images, but other last bits in batches of 1,
/// 2 and 5. A recording and a run split the images into batches differently, so both pad small batches to this size, and
/// the pool splits no batch into smaller parts.
pub const MIN_REQUEST_IMAGES: usize = 32;

/// The largest batch that is never split. Larger ones have parts of [`MIN_REQUEST_IMAGES`] or more.
const MAX_WHOLE_IMAGES: usize = 2 * MIN_REQUEST_IMAGES;

/// The largest answer that the pool accepts: 1 GiB, the upper limit of a teacher's `grpc.max_message_bytes`.
pub(crate) const MAX_ANSWER_BYTES: usize = 1 << 30;

/// Upper bound for what a message contains besides pixels or soft targets: id, shape, field keys and lengths.
const ENVELOPE_BYTES: u64 = 128;

/// The bytes that one image takes in a request and in its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BytesPerImage {
    request: u64,
    answer: u64,
}

impl BytesPerImage {
    /// Computes them for samples of `request` bytes, without their seeds, and answers with `classes` logits in
    /// `encoding`.
    pub fn new(request: u64, encoding: Encoding, classes: usize) -> Self {
        Self {
            request: request.saturating_add(encoding.seed_bytes() as u64),
            answer: encoding.sample_bytes(classes).total() as u64,
        }
    }

    /// Returns how many images fit into one message, both as a request and as an answer. `max_message_bytes` is the
    /// teacher's limit; `None` means that it reports none. [`MAX_ANSWER_BYTES`] limits answers too.
    pub fn images_per_message(self, max_message_bytes: Option<NonZero<u64>>) -> usize {
        let teacher = max_message_bytes.map_or(u64::MAX, NonZero::get);
        let images = |limit: u64, image: u64| limit.saturating_sub(ENVELOPE_BYTES) / image.max(1);
        let request = images(teacher, self.request);
        let answer = images(teacher.min(MAX_ANSWER_BYTES as u64), self.answer);
        usize::try_from(request.min(answer)).unwrap_or(usize::MAX)
    }

    /// Checks that a teacher whose messages hold `images_per_message` can answer batches of `images`.
    ///
    /// # Errors
    /// The size that messages would need, in bytes.
    pub fn check(self, images: usize, images_per_message: usize) -> Result<(), u64> {
        let whole = images.min(MAX_WHOLE_IMAGES);
        if whole <= images_per_message {
            return Ok(());
        }
        Err(whole as u64 * self.request.max(self.answer) + ENVELOPE_BYTES)
    }
}

/// Splits a batch of `images` into as few parts of at most `images_per_message` as possible, of almost equal sizes.
pub(crate) fn split(
    images: usize,
    images_per_message: usize,
) -> impl Iterator<Item = Range<usize>> {
    let parts = images.div_ceil(images_per_message.max(1)).max(1);
    (0..parts).map(move |part| part * images / parts..(part + 1) * images / parts)
}

/// The answers to the parts of one batch.
#[derive(Debug)]
pub(crate) struct PartAnswers {
    parts: Vec<Option<SoftTargets>>,
    missing: usize,
}

impl PartAnswers {
    /// Creates them for a batch with `parts` parts, without any answer.
    pub fn new(parts: usize) -> Self {
        Self {
            parts: vec![None; parts],
            missing: parts,
        }
    }

    /// Adds the answer to one part; returns the answer to the whole batch once it is complete.
    pub fn add(&mut self, part: usize, targets: SoftTargets) -> Option<SoftTargets> {
        if self.parts[part].replace(targets).is_none() {
            self.missing -= 1;
        }
        if self.missing > 0 {
            return None;
        }
        let mut parts: Vec<SoftTargets> = self.parts.drain(..).flatten().collect();
        match parts.len() {
            // Shares the bytes of the message instead of copying them.
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
        let images = |request, encoding, classes, limit| {
            BytesPerImage::new(request, encoding, classes).images_per_message(NonZero::new(limit))
        };
        let mib = 1 << 20;
        // 784 bytes of pixels, 40 of logits.
        assert_eq!(images(784, Encoding::F32, 10, mib), 1337);
        // 87,364 bytes of logits.
        assert_eq!(images(784, Encoding::F32, 21_841, 64 * mib), 768);
        assert_eq!(images(784, Encoding::F16, 21_841, 64 * mib), 1536);
        // 784 bytes of pixels and 8 of the seed, 100 of the draws.
        let sampled = "sampled-50".parse().unwrap();
        assert_eq!(images(784, sampled, 21_841, mib), 1323);
        // Without a limit of the teacher, the limit for answers applies.
        assert_eq!(images(784, Encoding::F32, 21_841, 0), 12_290);
        assert_eq!(images(3 * 4096 * 4096, Encoding::F32, 10, 4096), 0);
    }

    #[test]
    fn parts_cover_the_batch_fit_and_are_never_small() {
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
                    parts.len() == 1 || part.len() >= MIN_REQUEST_IMAGES,
                    "{images} {fitting}: {part:?}"
                );
            }
        }
    }

    #[test]
    fn batches_with_small_parts_are_refused() {
        let image = BytesPerImage::new(4, Encoding::F32, 10);
        assert_eq!(image.check(1000, 64), Ok(()));
        assert_eq!(image.check(20, 20), Ok(()));
        assert_eq!(image.check(1000, 63), Err(64 * 40 + 128));
        assert_eq!(image.check(20, 19), Err(20 * 40 + 128));
        assert_eq!(image.check(1, 0), Err(40 + 128));
    }

    #[test]
    fn answers_are_joined_in_the_order_of_the_parts() {
        let encode = |first: f32| {
            let logits = [first, 0.0, first + 1.0, 0.5];
            Encoder::default()
                .encode(Encoding::F32, &logits, 2)
                .unwrap()
        };
        let mut answers = PartAnswers::new(2);
        assert_eq!(answers.add(1, encode(10.0)), None);
        assert_eq!(
            answers.add(1, encode(20.0)),
            None,
            "the same part twice is not the whole"
        );
        let whole = answers.add(0, encode(1.0)).unwrap();
        let logits: Vec<f32> = whole.logits().collect();
        assert_eq!(logits, [1.0, 0.0, 2.0, 0.5, 20.0, 0.0, 21.0, 0.5]);
        assert_eq!(PartAnswers::new(1).add(0, encode(3.0)), Some(encode(3.0)));
    }
}
