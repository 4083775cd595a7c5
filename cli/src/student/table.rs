//! The suggestions as a table, and as lines for a run's configuration.

use indicatif::{DecimalBytes, HumanCount};
use networks::Cost;

use super::search::{Suggestion, same_layers};

/// Leaves one of several sizes that are the same network.
pub(super) fn drop_equal(suggestions: &mut Vec<Suggestion>) {
    suggestions.dedup_by(|next, kept| same_layers(&next.spec, &kept.spec));
}

/// The table, then one line of TOML per row.
pub(super) fn text(suggestions: &[Suggestion]) -> String {
    let mut text = format!(
        "  {:<17}  {:>6}  {:>5}  {:>12}  {:>13}  {:>10}  {:>10}  {}\n",
        "preset",
        "width",
        "depth",
        "parameters",
        "multiply-adds",
        "file size",
        "latency",
        "min–max"
    );
    for suggestion in suggestions {
        let Suggestion {
            family,
            width,
            depth,
            cost,
            measured,
            ..
        } = suggestion;
        let Cost {
            parameters,
            multiply_adds,
        } = cost;
        text += &format!(
            "  {:<17}  {width:>6}  {depth:>5}  {:>12}  {:>13}  {:>10}  {:>10}  {:.0}–{:.0} µs\n",
            family.name(),
            HumanCount(*parameters).to_string(),
            format!("{:.2} M", *multiply_adds as f64 / 1e6),
            DecimalBytes(measured.bytes as u64).to_string(),
            format!("{:.0} µs", measured.latency.median),
            measured.latency.least,
            measured.latency.most,
        );
    }
    text += "\nOne of these lines goes into a run's configuration, before its first table (`retort distill` has the flags\n\
             --student, --width, --depth and --size):\n";
    for suggestion in suggestions {
        text += &format!("\n{}", toml_line(suggestion));
    }
    text
}

fn toml_line(suggestion: &Suggestion) -> String {
    // Holds: a spec is a table of numbers, texts and lists.
    let network = toml::Value::try_from(&suggestion.spec).expect("a spec serializes");
    format!("network = {network}")
}

#[cfg(test)]
mod tests {
    use networks::{NetworkSpec, cost};
    use onnx_runtime::Latency;

    use super::*;
    use crate::student::{family::Family, latency::Measured};

    fn suggestion(width: f64) -> Suggestion {
        let spec = NetworkSpec {
            input: [1, 28, 28].into(),
            classes: 10,
            architecture: Family::Cnn.architecture(width, 1.0),
        };
        Suggestion {
            family: Family::Cnn,
            width,
            depth: 1.0,
            cost: cost(&spec).unwrap(),
            spec,
            measured: Measured {
                bytes: 157_260,
                latency: Latency {
                    median: 44.4,
                    least: 43.0,
                    most: 51.2,
                },
            },
        }
    }

    #[test]
    fn a_line_of_toml_is_the_network_of_its_row() {
        let found = [suggestion(0.5), suggestion(1.25)];
        let text = text(&found);
        assert!(
            text.contains("43–51 µs") && text.contains("157.26 kB"),
            "{text}"
        );
        let lines: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("network = "))
            .collect();
        for (line, suggestion) in lines.iter().zip(&found) {
            let table: toml::Table = line.parse().unwrap();
            let spec: NetworkSpec = table["network"].clone().try_into().unwrap();
            assert_eq!(spec, suggestion.spec);
        }
        assert_eq!(lines.len(), found.len());
    }

    #[test]
    fn the_same_network_is_listed_once() {
        let mut found = vec![suggestion(0.5), suggestion(0.51), suggestion(1.0)];
        drop_equal(&mut found);
        assert_eq!(found, [suggestion(0.5), suggestion(1.0)]);
    }
}
