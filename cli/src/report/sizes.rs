//! Charts of what a model costs and what it gives.

use crate::{
    comparison::Figures,
    page::{Chart, Series, Unit},
};

/// One figure of a model, if it is known.
type Figure = fn(&Figures) -> Option<f64>;

/// Accuracy over parameters, file size and latency, one point per model. A model whose cost is not known, such as a
/// teacher behind an inference server, is a line at its accuracy. Without labels, the agreement with the teacher takes
/// the place of the accuracy.
pub(super) fn cost_charts(models: &[(String, Figures)]) -> Vec<Chart> {
    let has_labels = models.iter().any(|(_, figures)| figures.accuracy.is_some());
    let (what, value): (_, Figure) = match has_labels {
        true => ("Accuracy", |figures| figures.accuracy),
        false => ("Agreement with the teacher", |figures| figures.agreement),
    };
    let costs: [(&str, &str, Figure); 3] = [
        ("parameters", "millions of parameters", |figures| {
            Some(figures.parameters? as f64 / 1e6)
        }),
        ("file size", "megabytes", |figures| {
            Some(figures.bytes? as f64 / 1e6)
        }),
        (
            "latency",
            "milliseconds per sample, one thread",
            |figures| Some(figures.p50_us? / 1e3),
        ),
    ];
    let chart = |(cost_name, x_label, cost): (&str, &'static str, Figure)| {
        let costs = models.iter().filter_map(|(_, figures)| cost(figures));
        let most = costs.reduce(f64::max)?;
        let series = models.iter().map(|(name, figures)| {
            let points = match (cost(figures), value(figures)) {
                (Some(cost), Some(value)) => vec![(cost, value)],
                (None, Some(value)) => vec![(0.0, value), (most, value)],
                (_, None) => Vec::new(),
            };
            Series::new(name, points)
        });
        Some(Chart {
            title: format!("{what} by {cost_name}"),
            x_label,
            // The first colour is pale.
            series: [Series::new("", Vec::new())]
                .into_iter()
                .chain(series)
                .collect(),
            unit: Unit::Percent,
        })
    };
    costs.into_iter().filter_map(chart).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_of_unknown_cost_is_a_line_and_unknown_costs_have_no_chart() {
        let student = Figures {
            accuracy: Some(0.9),
            parameters: Some(40_000),
            ..Figures::default()
        };
        let teacher = Figures {
            accuracy: Some(0.95),
            ..Figures::default()
        };
        let models = [("teacher", teacher), ("student", student)];
        let models = models.map(|(name, figures)| (name.to_owned(), figures));
        let charts = cost_charts(&models);
        assert_eq!(charts.len(), 1);
        let points: Vec<_> = charts[0].series[1..]
            .iter()
            .map(|it| &it.points[..])
            .collect();
        assert_eq!(points, [&[(0.0, 0.95), (0.04, 0.95)][..], &[(0.04, 0.9)]]);
        assert_eq!(charts[0].title, "Accuracy by parameters");
        assert_eq!(cost_charts(&[]).len(), 0);
    }
}
