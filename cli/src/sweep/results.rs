//! The table of a sweep: mean and standard deviation of each setting.

use super::plan::Setting;
use crate::{duration::duration, runs::RunHistory, text_table::text_table};

/// Figures of one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RunFigures {
    /// Accuracy on the validation split after the last epoch, 0 to 1, if the run has one.
    pub validation_accuracy: Option<f64>,
    /// Mean over the last epoch's samples.
    pub train_loss: Option<f64>,
    /// Wall-clock seconds of all epochs.
    pub seconds: f64,
}

impl RunFigures {
    pub(super) fn of(history: &RunHistory) -> Self {
        let epochs = history.phases.iter().flat_map(|phase| &phase.epochs);
        let last = epochs.clone().last();
        Self {
            validation_accuracy: last.and_then(|epoch| epoch.validation_accuracy),
            train_loss: last.map(|epoch| epoch.train_loss),
            seconds: epochs.map(|epoch| epoch.seconds).sum(),
        }
    }
}

/// The table for a terminal; `figures` are (position of the setting, figures) of each run.
pub(super) fn table(settings: &[Setting], figures: &[(usize, RunFigures)]) -> String {
    let headings = ["setting", "runs", "validation accuracy", "loss", "time"];
    let mut rows = vec![headings.map(str::to_owned).to_vec()];
    for (position, setting) in settings.iter().enumerate() {
        let of_setting = || {
            figures
                .iter()
                .filter(|(of, _)| *of == position)
                .map(|(_, it)| it)
        };
        let accuracies = of_setting().filter_map(|run| run.validation_accuracy);
        let losses = of_setting().filter_map(|run| run.train_loss);
        let seconds: Vec<f64> = of_setting().map(|run| run.seconds).collect();
        let label = match setting.label.as_str() {
            "" => "as configured",
            label => label,
        };
        rows.push(vec![
            label.to_owned(),
            seconds.len().to_string(),
            spread(
                accuracies.map(|accuracy| 100.0 * accuracy).collect(),
                2,
                " %",
            ),
            spread(losses.collect(), 4, ""),
            mean(&seconds).map_or_else(|| "–".to_owned(), duration),
        ]);
    }
    text_table(&rows)
}

/// "90.12 ± 0.34 %": mean and standard deviation of the sample, as `torch.std` computes it; one value has none.
fn spread(values: Vec<f64>, digits: usize, unit: &str) -> String {
    let Some(mean) = mean(&values) else {
        return "–".to_owned();
    };
    if values.len() < 2 {
        return format!("{mean:.digits$}{unit}");
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (squares / (values.len() - 1) as f64).sqrt();
    format!("{mean:.digits$} ± {deviation:.digits$}{unit}")
}

fn mean(values: &[f64]) -> Option<f64> {
    let count = values.len();
    (count > 0).then(|| values.iter().sum::<f64>() / count as f64)
}

#[cfg(test)]
mod tests {
    use super::{super::plan, *};
    use crate::{run_config::RunConfigText, text_table::cells};

    #[test]
    fn mean_and_deviation_are_those_of_each_setting() {
        let over = plan::Over::parse("seed_of_views=1,2,3").unwrap();
        let settings = plan::settings(&[over], &RunConfigText::default()).unwrap();
        let run = |setting, accuracy, seconds| {
            let figures = RunFigures {
                validation_accuracy: accuracy,
                train_loss: Some(0.5),
                seconds,
            };
            (setting, figures)
        };
        let figures = [
            run(0, Some(0.90), 10.0),
            run(0, Some(0.92), 20.0),
            run(0, Some(0.94), 30.0),
            run(1, None, 7.0),
        ];
        let table = table(&settings, &figures);
        let lines = cells(&table);
        assert_eq!(
            lines[1],
            [
                "seed_of_views=1",
                "3",
                "92.00 ± 2.00 %",
                "0.5000 ± 0.0000",
                "20.0 s"
            ]
        );
        assert_eq!(lines[2], ["seed_of_views=2", "1", "–", "0.5000", "7.0 s"]);
        assert_eq!(lines[3], ["seed_of_views=3", "0", "–", "–", "–"]);
    }
}
