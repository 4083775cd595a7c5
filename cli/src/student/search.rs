//! Finds the widest network of a family and a depth within a budget.

use networks::{Cost, NetworkSpec, Shape, cost, limits};

use super::{
    family::Family,
    latency::{Measured, measure},
};
use crate::CliError;

/// Widths are multiples of one in this many.
const STEPS: u32 = 100;
const WIDEST: u32 = limits::MULTIPLIER as u32 * STEPS;

/// Limits of a network; `None`: any.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Budget {
    /// Most parameters.
    pub parameters: Option<u64>,
    /// Most multiply-adds for one sample.
    pub multiply_adds: Option<u64>,
    /// Longest median latency.
    pub microseconds: Option<f64>,
}

/// What networks are searched for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search {
    pub input: Shape,
    pub classes: usize,
    pub budget: Budget,
}

/// A network within the budget.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Suggestion {
    pub family: Family,
    pub width: f64,
    pub depth: f64,
    pub spec: NetworkSpec,
    pub cost: Cost,
    pub measured: Measured,
}

impl Search {
    /// The widest network of this family and depth within the budget; `None` if the narrowest is too large.
    pub(super) fn largest(
        &self,
        family: Family,
        depth: f64,
    ) -> Result<Option<Suggestion>, CliError> {
        let spec = |steps: u32| NetworkSpec {
            input: self.input,
            classes: self.classes,
            architecture: family.architecture(f64::from(steps) / f64::from(STEPS), depth),
        };
        // Costs never fall with the width. A network beyond the limits of all networks counts as too large.
        let widest = greatest(WIDEST, |steps| {
            Ok(cost(&spec(steps)).is_ok_and(|cost| self.budget.allows(cost)))
        })?;
        let widest = match self.budget.microseconds {
            None => widest,
            Some(most) => greatest(widest, |steps| {
                Ok(measure(&spec(steps))?.latency.median <= most)
            })?,
        };
        if widest == 0 {
            // An image may be too small for the family, which is an error to show.
            return match cost(&spec(1)) {
                Ok(_) => Ok(None),
                Err(error) => Err(CliError::Usage(format!("{}: {error}", family.name()))),
            };
        }
        let steps = roundest(widest, |steps| same_layers(&spec(steps), &spec(widest)));
        let spec = spec(steps);
        let cost = cost(&spec).map_err(|error| CliError::Usage(error.to_string()))?;
        Ok(Some(Suggestion {
            family,
            width: f64::from(steps) / f64::from(STEPS),
            depth,
            measured: measure(&spec)?,
            spec,
            cost,
        }))
    }
}

impl Budget {
    fn allows(&self, cost: Cost) -> bool {
        let within = |value: u64, most: Option<u64>| most.is_none_or(|most| value <= most);
        within(cost.parameters, self.parameters) && within(cost.multiply_adds, self.multiply_adds)
    }
}

/// The greatest number from 1 to `most` that `fits`, if all smaller ones fit too; 0 if none does. Begins with small
/// numbers, because the larger a network, the longer its test.
fn greatest(
    most: u32,
    mut fits: impl FnMut(u32) -> Result<bool, CliError>,
) -> Result<u32, CliError> {
    let mut fitting = 0;
    let mut next = 1.min(most);
    while fitting < next && fits(next)? {
        fitting = next;
        next = (2 * next).min(most);
    }
    let mut too_large = next;
    while fitting + 1 < too_large {
        let middle = fitting.midpoint(too_large);
        if fits(middle)? {
            fitting = middle;
        } else {
            too_large = middle;
        }
    }
    Ok(fitting)
}

/// The roundest number of at most `most` with the same network: 100 is rounder than 90, and 90 than 87.
fn roundest(most: u32, is_same: impl Fn(u32) -> bool) -> u32 {
    let rounded = [100, 50, 25, 10, 5].map(|step| most / step * step);
    let mut rounded = rounded.into_iter().filter(|steps| *steps > 0);
    rounded.find(|steps| is_same(*steps)).unwrap_or(most)
}

/// Whether two sizes are the same network, because channels are rounded.
pub(super) fn same_layers(one: &NetworkSpec, other: &NetworkSpec) -> bool {
    matches!((one.expanded(), other.expanded()), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_finds_the_greatest_number() {
        for most in [0, 1, 2, 7, 100, 3200] {
            for limit in [0, 1, 2, 3, 63, 64, 65, 99, 3199, 5000] {
                let mut asked = 0;
                let found = greatest(most, |number| {
                    asked += 1;
                    assert!((1..=most).contains(&number));
                    Ok(number <= limit)
                });
                assert_eq!(found.unwrap(), most.min(limit), "{most} {limit}");
                assert!(asked < 26, "{asked}");
            }
        }
    }

    #[test]
    fn widths_are_as_round_as_the_network_permits() {
        assert_eq!(roundest(112, |steps| steps >= 97), 100);
        assert_eq!(roundest(112, |steps| steps >= 104), 110);
        assert_eq!(roundest(112, |steps| steps >= 111), 112);
        assert_eq!(roundest(7, |_| true), 5);
    }

    #[test]
    fn every_family_fills_a_budget_without_exceeding_it() {
        let budget = Budget {
            parameters: Some(5_000_000),
            multiply_adds: None,
            microseconds: None,
        };
        for input in [[3, 64, 64].into(), Shape::Vector { features: 30 }] {
            for family in Family::of_input(input) {
                let allows = |steps: u32| {
                    let spec = NetworkSpec {
                        input,
                        classes: 10,
                        architecture: family.architecture(f64::from(steps) / 100.0, 1.0),
                    };
                    cost(&spec).is_ok_and(|cost| budget.allows(cost))
                };
                let widest = greatest(WIDEST, |steps| Ok(allows(steps))).unwrap();
                assert!(widest > 0 && allows(widest), "{family:?}");
                let mut wider = (widest + 1..WIDEST).step_by(97);
                assert!(!wider.any(allows), "{family:?}");
            }
        }
    }
}
