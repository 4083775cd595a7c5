//! `retort runs compare`: run folders of this machine side by side.

use std::path::PathBuf;

use clap::Args;
use common::{
    atomic_file,
    output::{Messages, Results},
};

use crate::{CliError, run_folder::RunFolder, text_table::text_table};
use differences::{Difference, differences};
use page::Page;

mod differences;
mod page;
mod row;

/// Width of a value of the configuration in a terminal.
const WIDEST_VALUE: usize = 32;

/// Compare the runs in folders on this machine: results, and the settings in which they differ.
#[derive(Debug, Args)]
pub(super) struct CompareArguments {
    /// Folders of runs, finished or not, or folders that `retort distill` made.
    #[arg(required = true, value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// Also write a page with the table and the curves of all runs to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Runs, and how they differ.
#[derive(Debug)]
struct Comparison {
    /// Different from each other.
    names: Vec<String>,
    runs: Vec<RunFolder>,
    differences: Vec<Difference>,
}

/// # Errors
/// If a folder holds no run, or a damaged one, or the page cannot be written.
pub(super) fn execute(arguments: &CompareArguments) -> Result<(), CliError> {
    let comparison = Comparison::read(&arguments.folders)?;
    if let Some(file) = &arguments.html {
        let html = Page::new(&comparison).to_html();
        atomic_file::write(file, html.as_bytes()).map_err(CliError::file(file))?;
        writeln!(Messages, "page: {}", file.display());
    }
    write!(Results, "{}", comparison.text())?;
    Ok(())
}

impl Comparison {
    fn read(folders: &[PathBuf]) -> Result<Self, CliError> {
        let runs = folders.iter().map(|folder| RunFolder::read(folder));
        let runs = runs.collect::<Result<Vec<_>, _>>()?;
        let mut names: Vec<String> = runs.iter().map(RunFolder::name).collect();
        if (1..names.len()).any(|last| names[..last].contains(&names[last])) {
            let path = |folder: &PathBuf| folder.display().to_string();
            names = folders.iter().map(path).collect();
        }
        Ok(Self {
            names,
            differences: differences(&runs),
            runs,
        })
    }

    /// The text for a terminal.
    fn text(&self) -> String {
        let headings = ["", "state"].into_iter().chain(row::HEADINGS);
        let mut rows = vec![headings.map(str::to_owned).collect::<Vec<_>>()];
        for (name, run) in self.names.iter().zip(&self.runs) {
            let cells = [name.clone(), row::state(run).to_owned()];
            rows.push(cells.into_iter().chain(row::cells(run)).collect());
        }
        let mut text = text_table(&rows);
        if self.runs.len() > 1 {
            text += &match self.differences.is_empty() {
                true => "\nThe runs have the same settings.\n".to_owned(),
                false => format!("\n{}", text_table(&self.difference_rows())),
            };
        }
        text
    }

    fn difference_rows(&self) -> Vec<Vec<String>> {
        let heading = ["differing setting".to_owned()].into_iter();
        let heading = heading.chain(self.names.iter().cloned()).collect();
        let row = |difference: &Difference| {
            let values = difference.values.iter().map(|value| cut(value));
            [difference.key.clone()].into_iter().chain(values).collect()
        };
        [heading]
            .into_iter()
            .chain(self.differences.iter().map(row))
            .collect()
    }
}

fn cut(value: &str) -> String {
    if value.chars().count() <= WIDEST_VALUE {
        return value.to_owned();
    }
    let begin: String = value.chars().take(WIDEST_VALUE - 1).collect();
    begin + "…"
}

#[cfg(test)]
mod tests {
    use crate::{
        run_folder::tests::{EPOCH_1, EPOCH_2, STARTED, write_run},
        text_table::cells,
    };

    use super::*;

    /// A finished run and an unfinished one with another temperature.
    fn comparison(folder: &std::path::Path) -> Comparison {
        let folders = ["a", "b"].map(|name| folder.join(name));
        write_run(&folders[0], 2.0, &[STARTED, EPOCH_1, EPOCH_2], true);
        write_run(&folders[1], 4.0, &[STARTED, EPOCH_1], false);
        Comparison::read(&folders).unwrap()
    }

    #[test]
    fn runs_are_listed_with_the_settings_in_which_they_differ() {
        let folder = tempfile::tempdir().unwrap();
        let text = comparison(folder.path()).text();
        let lines = cells(&text);
        assert_eq!(lines[1][..2], ["a", "finished"]);
        assert!(
            lines[1].contains(&"80.00 %") && lines[1].contains(&"12.5 s"),
            "{text}"
        );
        assert_eq!(lines[2][..2], ["b", "unfinished"]);
        assert!(
            lines[2].contains(&"1 + 0 of 2 + 1") && lines[2].contains(&"75.00 %"),
            "{text}"
        );
        assert_eq!(lines[4], ["differing setting", "a", "b"]);
        assert_eq!(lines[5], ["phases[0].loss.temperature", "2.0", "4.0"]);
        assert_eq!(lines.len(), 6, "{text}");
    }

    #[test]
    fn the_page_overlays_the_curves_and_refers_to_nothing_outside() {
        let folder = tempfile::tempdir().unwrap();
        let page = Page::new(&comparison(folder.path())).to_html();
        assert_eq!(page.matches("<svg").count(), 3, "{page}");
        assert!(page.contains("phases[0].loss.temperature"));
        // The last values of both runs.
        assert!(
            page.contains("a 80.0 %") && page.contains("b 75.0 %"),
            "{page}"
        );
        for outside in [
            "http:", "https:", "src=", "<link", "url(", "@import", "<script",
        ] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn folders_of_one_name_are_shown_by_their_paths() {
        let folder = tempfile::tempdir().unwrap();
        let folders = ["x/s", "y/s"].map(|name| folder.path().join(name));
        for folder in &folders {
            write_run(folder, 2.0, &[], true);
        }
        let comparison = Comparison::read(&folders).unwrap();
        assert!(
            comparison.names[0].ends_with("x/s"),
            "{:?}",
            comparison.names
        );
        assert!(comparison.text().contains("the same settings"));
    }
}
