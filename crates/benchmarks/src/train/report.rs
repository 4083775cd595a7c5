//! The figures as a table or as JSON.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::cell::{Cell, Round};
use crate::series::{Series, series};

/// All figures of `retort-bench train`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    /// Geometric mean of the median ratios.
    ratio: f64,
    /// Version of PyTorch.
    torch: String,
    /// By network and number of threads.
    networks: BTreeMap<&'static str, BTreeMap<usize, Comparison>>,
}

/// Figures of one network with one number of threads.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Comparison {
    /// The trainer's samples/s divided by the fastest variant's, in the same turn.
    ratio: Series,
    samples_per_second: Series,
    /// The variant of PyTorch with the largest median.
    fastest: String,
    /// PyTorch's samples/s by variant.
    variants: BTreeMap<String, Series>,
    /// With torch.compile.
    compiled: Option<Series>,
    compile_error: Option<String>,
}

impl Figures {
    /// The figures of `cells`, each with at least one round.
    pub(super) fn of(cells: &[Cell]) -> Self {
        let mut networks: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for cell in cells {
            let by_threads = networks.entry(cell.workload.name()).or_default();
            by_threads.insert(cell.amount.threads, Comparison::of(&cell.rounds));
        }
        let ratios = networks.values().flat_map(BTreeMap::values);
        let logarithms = ratios.map(|comparison| comparison.ratio.median.ln());
        let count = networks.values().map(BTreeMap::len).sum::<usize>();
        let torch = cells.iter().flat_map(|cell| &cell.rounds).next();
        Self {
            ratio: (logarithms.sum::<f64>() / count as f64).exp(),
            torch: torch.map_or_else(String::new, |round| round.peer.torch.clone()),
            networks,
        }
    }
}

impl Comparison {
    fn of(rounds: &[Round]) -> Self {
        let names = rounds
            .iter()
            .flat_map(|round| round.peer.samples_per_second.keys());
        let variants: BTreeMap<_, _> = names
            .map(|name| {
                // A variant that a turn lacks counts as 0.
                let speed = |round: &Round| {
                    let speed = round.peer.samples_per_second.get(name);
                    speed.copied().unwrap_or_default()
                };
                (name.clone(), series(rounds, speed))
            })
            .collect();
        let fastest = variants
            .iter()
            .max_by(|(_, one), (_, other)| one.median.total_cmp(&other.median));
        Self {
            ratio: series(rounds, |round| round.ours / round.peer.fastest()),
            samples_per_second: series(rounds, |round| round.ours),
            fastest: fastest.map_or_else(String::new, |(name, _)| name.clone()),
            variants,
            compiled: Series::of(rounds.iter().filter_map(|round| round.peer.compiled)),
            compile_error: rounds
                .iter()
                .find_map(|round| round.peer.compile_error.clone()),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "samples/s, median (minimum to maximum); the peer is PyTorch {} in eager mode",
            self.torch
        )?;
        for (network, by_threads) in &self.networks {
            for (threads, comparison) in by_threads {
                writeln!(f, "{network}, {threads} threads")?;
                writeln!(f, "  ratio                {:.3}", comparison.ratio)?;
                writeln!(
                    f,
                    "  retort               {:.0}",
                    comparison.samples_per_second
                )?;
                for (variant, speed) in &comparison.variants {
                    let mark = match *variant == comparison.fastest {
                        true => " *",
                        false => "",
                    };
                    writeln!(f, "  {variant:<20} {speed:.0}{mark}")?;
                }
                if let Some(speed) = comparison.compiled {
                    writeln!(f, "  {:<20} {speed:.0}", "torch.compile")?;
                }
                if let Some(error) = &comparison.compile_error {
                    writeln!(f, "  torch.compile failed: {error}")?;
                }
            }
        }
        write!(
            f,
            "* the fastest variant\nratio, geometric mean of the medians: {:.3}",
            self.ratio
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(ours: f64, variants: [(&str, f64); 2]) -> Round {
        let speeds: serde_json::Map<_, _> = variants
            .into_iter()
            .map(|(name, speed)| (name.to_owned(), speed.into()))
            .collect();
        let peer = serde_json::json!({
            "torch": "2.11.0",
            "parameters": 1,
            "samples_per_second": speeds,
            "compiled": null,
            "compile_error": "no compiler",
        });
        let peer = serde_json::from_value(peer).unwrap();
        Round { ours, peer }
    }

    #[test]
    fn a_ratio_is_that_of_a_turn_with_its_fastest_variant() {
        let rounds = [
            round(10.0, [("bf16", 20.0), ("f32", 5.0)]),
            round(30.0, [("bf16", 15.0), ("f32", 5.0)]),
            round(40.0, [("bf16", 10.0), ("f32", 40.0)]),
        ];
        let comparison = Comparison::of(&rounds);
        let expected = Series::of([0.5, 2.0, 1.0]).unwrap();
        assert_eq!(comparison.ratio, expected);
        assert_eq!(comparison.fastest, "bf16");
        assert_eq!(comparison.variants["f32"].maximum, 40.0);
        assert_eq!(comparison.compiled, None);
        assert_eq!(comparison.compile_error.as_deref(), Some("no compiler"));
    }
}
