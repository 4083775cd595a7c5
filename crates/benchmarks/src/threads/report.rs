//! The figures as a table or as JSON.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::Speeds;
use crate::series::{Series, series};

/// The measurements of one turn, by the number of spins.
pub(super) type Turn = BTreeMap<u64, Round>;

/// The measurements with one number of spins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    pub alone: Speeds,
    /// Beside busy loops.
    pub beside: Speeds,
}

/// All figures of `retort-bench threads`, by the number of spins.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    turns: usize,
    spins: BTreeMap<u64, Waiting>,
}

/// Figures with one number of spins.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Waiting {
    training: Figure,
    forward: Figure,
}

/// Samples/s of one computation. Ratios are computed within a turn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Figure {
    alone: Series,
    beside: Series,
    /// `beside` divided by `alone`.
    beside_ratio: Series,
    /// `alone` divided by that of the largest number of spins.
    alone_ratio: Series,
}

impl Figures {
    /// The figures of one turn or more, which have the same numbers of spins.
    pub(super) fn of(turns: &[Turn]) -> Self {
        let numbers = turns.first().into_iter().flat_map(BTreeMap::keys);
        let spins = numbers.map(|&number| {
            let figure = |speed: fn(Speeds) -> f64| Figure::of(turns, number, speed);
            let waiting = Waiting {
                training: figure(|speeds| speeds.training),
                forward: figure(|speeds| speeds.forward),
            };
            (number, waiting)
        });
        Self {
            turns: turns.len(),
            spins: spins.collect(),
        }
    }
}

/// The speed of the trainer or that of the teacher.
type Speed = fn(Speeds) -> f64;

/// A figure of one round.
type OfRound = fn(&Round, Speed) -> f64;

impl Figure {
    fn of(turns: &[Turn], number: u64, speed: Speed) -> Self {
        let of = |figure: OfRound| series(turns, |turn| figure(&turn[&number], speed));
        Self {
            alone: of(|round, speed| speed(round.alone)),
            beside: of(|round, speed| speed(round.beside)),
            beside_ratio: of(|round, speed| speed(round.beside) / speed(round.alone)),
            alone_ratio: series(turns, |turn| {
                let most = turn.last_key_value().map_or(&turn[&number], |(_, it)| it);
                speed(turn[&number].alone) / speed(most.alone)
            }),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} turns: median (minimum to maximum)", self.turns)?;
        for (number, waiting) in &self.spins {
            write!(f, "\n{number} spins")?;
            for (what, figure) in [("training", waiting.training), ("forward", waiting.forward)] {
                write!(
                    f,
                    "\n  {what:<9} alone {:.0} samples/s, beside busy loops {:.0}\n            \
                     beside_ratio {:.3}, alone_ratio {:.3}",
                    figure.alone, figure.beside, figure.beside_ratio, figure.alone_ratio
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_a_turn() {
        let speeds = |speed| Speeds {
            training: speed,
            forward: 2.0 * speed,
        };
        let round = |alone, beside| Round {
            alone: speeds(alone),
            beside: speeds(beside),
        };
        let turns = [
            Turn::from([(0, round(90.0, 45.0)), (300, round(100.0, 10.0))]),
            Turn::from([(0, round(190.0, 76.0)), (300, round(200.0, 10.0))]),
            Turn::from([(0, round(100.0, 60.0)), (300, round(100.0, 10.0))]),
        ];
        let figures = Figures::of(&turns);
        let sleeping = &figures.spins[&0];
        assert_eq!(sleeping.training.beside_ratio.median, 0.5);
        assert_eq!(sleeping.training.alone_ratio.median, 0.95);
        assert_eq!(sleeping.forward.alone.maximum, 380.0);
        assert_eq!(figures.spins[&300].training.alone_ratio.minimum, 1.0);
    }
}
