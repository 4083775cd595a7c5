//! Draws classes from a teacher's probabilities.

use datasets::random::{Purpose, RandomStreams};
use rand::Rng;

use super::Sampling;

/// Draws the classes of sampled soft targets; reuses its buffers for the next row.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    /// Sums of the unnormalized probabilities, up to and including each class.
    cumulative: Vec<f64>,
    drawn: Vec<u32>,
}

impl Sampler {
    /// The classes that `seed` draws from `row`, which is finite and not empty; ascending. Inverts the
    /// cumulative distribution at uniform random numbers.
    ///
    /// The draws are a pure function of the arguments on every machine: libm's exponential has the same bits
    /// everywhere, whereas the standard library's depends on the C library.
    pub(super) fn draw(&mut self, sampling: Sampling, row: &[f32], seed: u64) -> &[u32] {
        let temperature = f64::from(sampling.temperature);
        let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let mut sum = 0.0;
        self.cumulative.clear();
        self.cumulative.extend(row.iter().map(|logit| {
            sum += libm::exp((f64::from(*logit) - largest) / temperature);
            sum
        }));
        let mut generator = RandomStreams::new(seed, Purpose::ClassDraw, 0, 0).at(0);
        self.drawn.clear();
        self.drawn.extend((0..sampling.draws).map(|_| {
            let point = sum * unit_interval(generator.next_u64());
            // Below the number of classes, because the point is below the sum.
            self.cumulative.partition_point(|sum| *sum <= point) as u32
        }));
        self.drawn.sort_unstable();
        &self.drawn
    }
}

/// Maps 64 random bits to [0, 1): a multiple of 2⁻⁵³.
fn unit_interval(bits: u64) -> f64 {
    (bits >> 11) as f64 * (f64::EPSILON / 2.0)
}

#[cfg(test)]
mod tests {
    use datasets::View;
    use serde::Deserialize;

    use super::*;
    use crate::{DrawSeeds, Encoding};

    const ROW: [f32; 6] = [2.0, -1.0, 0.5, 3.0, -3.0, 1.5];

    /// softmax(`row` / `temperature`)
    fn probabilities(row: &[f32], temperature: u32) -> Vec<f64> {
        let exponentials = row
            .iter()
            .map(|logit| (f64::from(*logit) / f64::from(temperature)).exp());
        let exponentials: Vec<f64> = exponentials.collect();
        let sum: f64 = exponentials.iter().sum();
        exponentials.iter().map(|value| value / sum).collect()
    }

    /// The share of each class of [`ROW`] among the draws of `seeds` seeds.
    fn shares(sampling: Sampling, seeds: u64) -> Vec<f64> {
        let mut sampler = Sampler::default();
        let mut shares = vec![0.0; ROW.len()];
        let draws = u64::from(sampling.draws) * seeds;
        for seed in 0..seeds {
            for class in sampler.draw(sampling, &ROW, seed) {
                shares[*class as usize] += 1.0 / draws as f64;
            }
        }
        shares
    }

    /// How far each share is from its probability, in standard deviations of the share of `draws` draws.
    fn deviations(shares: &[f64], probabilities: &[f64], draws: f64) -> Vec<f64> {
        let deviation = |(share, probability): (&f64, &f64)| {
            (share - probability).abs() / (probability * (1.0 - probability) / draws).sqrt()
        };
        shares.iter().zip(probabilities).map(deviation).collect()
    }

    #[test]
    fn the_mean_of_many_draws_is_the_probability_at_the_temperature() {
        let seeds = 20_000;
        for (draws, temperature) in [(1, 1), (5, 1), (3, 4)] {
            let sampling = Sampling { draws, temperature };
            let shares = shares(sampling, seeds);
            let count = f64::from(draws) * seeds as f64;
            let exact = probabilities(&ROW, temperature);
            let off = deviations(&shares, &exact, count);
            assert!(off.iter().all(|off| *off < 5.0), "{sampling:?}: {off:?}");
            // The bound tells temperatures apart.
            let other = probabilities(&ROW, temperature + 1);
            let off = deviations(&shares, &other, count);
            assert!(off.iter().any(|off| *off > 10.0), "{sampling:?}: {off:?}");
        }
    }

    #[test]
    fn the_variance_of_a_share_falls_with_the_number_of_draws() {
        let mut sampler = Sampler::default();
        let exact = probabilities(&ROW, 1)[3];
        for draws in [1, 16] {
            let sampling = Sampling {
                draws,
                temperature: 1,
            };
            let seeds = 4_000;
            let mut squares = 0.0;
            for seed in 0..seeds {
                let drawn = sampler.draw(sampling, &ROW, seed);
                let count = drawn.iter().filter(|class| **class == 3).count();
                squares += (count as f64 / f64::from(draws) - exact).powi(2);
            }
            let variance = squares / seeds as f64;
            let expected = exact * (1.0 - exact) / f64::from(draws);
            let ratio = variance / expected;
            assert!((0.85..1.15).contains(&ratio), "{draws} draws: {ratio}");
        }
    }

    #[test]
    fn extreme_rows_draw_classes_that_have_a_probability() {
        let mut sampler = Sampler::default();
        let sampling = Sampling {
            draws: 100,
            temperature: 1,
        };
        for (row, possible) in [
            (&[0.0f32][..], &[0u32][..]),
            (&[-3e38, 3e38, -3e38], &[1]),
            (&[-800.0, 0.0, -800.0, 0.0, -800.0], &[1, 3]),
            (&[f32::MIN, f32::MIN], &[0, 1]),
        ] {
            for seed in 0..50 {
                let drawn = sampler.draw(sampling, row, seed);
                assert_eq!(drawn.len(), 100);
                assert!(drawn.is_sorted(), "{drawn:?}");
                assert!(
                    drawn.iter().all(|class| possible.contains(class)),
                    "{row:?}"
                );
            }
        }
    }

    /// A batch, and the draws of `scripts/golden/draws.py`.
    #[derive(Deserialize)]
    struct Golden {
        encoding: Encoding,
        view_seed: u64,
        view: u64,
        samples: Vec<u32>,
        logits: Vec<f32>,
        drawn: Vec<Vec<u32>>,
    }

    #[test]
    fn draws_are_those_of_an_independent_implementation() {
        let golden = include_str!("../../tests/golden/draws.json");
        let cases: Vec<Golden> = serde_json::from_str(golden).unwrap();
        assert!(cases.len() >= 4, "{}", cases.len());
        let mut sampler = Sampler::default();
        for case in cases {
            let Encoding::Sampled(sampling) = case.encoding else {
                panic!("{}", case.encoding);
            };
            let view = View::Fixed {
                seed: case.view_seed,
                view: case.view,
            };
            let seeds = DrawSeeds::of(case.encoding, view, case.samples);
            let drawn: Vec<Vec<u32>> = seeds
                .iter()
                .map(|seed| sampler.draw(sampling, &case.logits, seed).to_vec())
                .collect();
            assert_eq!(drawn, case.drawn, "{}", case.encoding);
        }
    }
}
