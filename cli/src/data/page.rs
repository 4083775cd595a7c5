//! A self-contained page about a data set, with thumbnails of each class.

use std::sync::Arc;

use askama::Template;
use datasets::{DatasetError, Opened, Source, SplitInspection, SplitName};

use super::report::{Report, shown, statistics};
use crate::page::Thumbnails;

/// What the template `data.html` shows.
#[derive(Debug, Template)]
#[template(path = "data.html")]
pub(super) struct Page {
    path: String,
    warnings: Vec<String>,
    splits: Vec<Split>,
    classes: Vec<Class>,
    /// Classes that have no thumbnails here, because there are too many.
    more_classes: usize,
    duplicates: Vec<String>,
    more_duplicates: usize,
    unreadable: Vec<String>,
    more_unreadable: usize,
}

#[derive(Debug)]
struct Split {
    name: SplitName,
    samples: usize,
    unlabelled: usize,
    sizes: String,
    statistics: String,
    classes: Vec<ClassBar>,
}

#[derive(Debug)]
struct ClassBar {
    name: String,
    samples: usize,
    /// Of the largest class, in percent.
    share: f64,
}

/// The thumbnails of a class; of samples without labels, all.
#[derive(Debug)]
struct Class {
    name: String,
    pictures: Vec<String>,
}

/// Thumbnails of a class.
const PER_CLASS: usize = 12;
/// Thumbnails of samples without labels.
const UNLABELLED: usize = 60;
/// Classes with thumbnails. A thumbnail takes some 3 KB.
const CLASSES: usize = 60;
/// Duplicates and files that are listed.
const LISTED: usize = 100;

impl Page {
    /// The page of `report` with pictures of the training samples of `opened`.
    ///
    /// # Errors
    /// If a sample cannot be read.
    pub(super) fn new(report: &Report<'_>, opened: &Opened) -> Result<Self, DatasetError> {
        let inspection = report.inspection;
        let duplicates = inspection.duplicates.iter().take(LISTED).map(|duplicate| {
            let places: Vec<_> = duplicate.samples.iter().map(shown).collect();
            places.join(" = ")
        });
        let unreadable = inspection.unreadable.iter().take(LISTED);
        Ok(Self {
            path: report.path.clone(),
            warnings: report.warnings.iter().map(ToString::to_string).collect(),
            splits: inspection.splits.iter().map(Split::new).collect(),
            classes: classes(&opened.train)?,
            more_classes: opened.train.class_names().len().saturating_sub(CLASSES),
            duplicates: duplicates.collect(),
            more_duplicates: inspection.duplicates.len().saturating_sub(LISTED),
            unreadable: unreadable.map(ToString::to_string).collect(),
            more_unreadable: inspection.unreadable.len().saturating_sub(LISTED),
        })
    }

    /// The whole page.
    pub(super) fn to_html(&self) -> String {
        // Cannot fail: the page is written to a string.
        self.render().expect("the page renders")
    }
}

impl Split {
    fn new(split: &SplitInspection) -> Self {
        let largest = split.classes.iter().map(|class| class.samples).max();
        let classes = split.classes.iter().map(|class| ClassBar {
            name: class.name.clone(),
            samples: class.samples,
            share: 100.0 * class.samples as f64 / largest.unwrap_or(0).max(1) as f64,
        });
        let sizes = split.sizes.as_ref().map(|sizes| {
            let [[low, _, high], [left, _, right]] = [sizes.height, sizes.width];
            match sizes.different {
                1 => format!("{low} × {left}"),
                different => format!("{low} × {left} to {high} × {right} ({different} different)"),
            }
        });
        Self {
            name: split.split,
            samples: split.samples,
            unlabelled: split.unlabelled,
            sizes: sizes.unwrap_or_default(),
            statistics: statistics(&split.channels),
            classes: classes.collect(),
        }
    }
}

/// Pictures of each class, spread over its samples.
fn classes(train: &Arc<dyn Source>) -> Result<Vec<Class>, DatasetError> {
    let Some(thumbnails) = Thumbnails::of(&**train) else {
        return Ok(Vec::new());
    };
    let mut groups: Vec<(String, Option<u32>, usize)> = (0..)
        .zip(train.class_names())
        .take(CLASSES)
        .map(|(label, name)| (name.clone(), Some(label), PER_CLASS))
        .collect();
    groups.push(("without a label".to_owned(), None, UNLABELLED));
    let mut classes = Vec::new();
    for (name, label, most) in groups {
        let samples = 0..train.len() as u32;
        let samples: Vec<u32> = samples
            .filter(|sample| train.label(*sample) == label)
            .collect();
        let count = samples.len().min(most);
        let pictures =
            (0..count).map(|at| thumbnails.data_uri(samples[at * samples.len() / count]));
        let pictures = pictures.collect::<Result<Vec<_>, _>>()?;
        if !pictures.is_empty() {
            classes.push(Class { name, pictures });
        }
    }
    Ok(classes)
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use datasets::{InMemoryImages, inspect};

    use super::*;

    fn page(
        names: &[&str],
        shape: [usize; 3],
        pixels: Vec<u8>,
        labels: Vec<Option<u32>>,
    ) -> String {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let opened = Opened {
            train: Arc::new(InMemoryImages::new(shape, names, pixels, labels)),
            validation: None,
            test: None,
            unreadable: vec![],
        };
        let inspection = inspect(&opened, &|_| ()).unwrap();
        let report = Report {
            path: "a <folder>".to_owned(),
            inspection: &inspection,
            warnings: inspection.warnings(),
        };
        Page::new(&report, &opened).unwrap().to_html()
    }

    #[test]
    fn the_page_is_self_contained_and_its_pictures_are_those_of_the_samples() {
        let html = page(
            &["<cat>", "dog"],
            [3, 1, 2],
            vec![1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7, 7],
            vec![Some(0), Some(1)],
        );
        assert!(
            html.contains("&#60;cat&#62;") && html.contains("a &#60;folder&#62;"),
            "{html}"
        );
        for outside in ["http:", "https:", "<link", "url(", "@import", "<script"] {
            assert!(!html.contains(outside), "{outside}");
        }
        let pictures: Vec<_> = html.split("src=\"data:image/png;base64,").skip(1).collect();
        assert_eq!(pictures.len(), 2);
        let encoded = pictures[0].split('"').next().unwrap();
        let picture = image::load_from_memory(&BASE64_STANDARD.decode(encoded).unwrap()).unwrap();
        // Planes become pixels.
        assert_eq!(picture.to_rgb8().into_raw(), [1, 3, 5, 2, 4, 6]);
    }

    #[test]
    fn the_number_of_pictures_is_bounded() {
        let names: Vec<String> = (0..100).map(|class| format!("c{class}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let labels: Vec<_> = (0..3000).map(|sample| Some(sample % 100)).collect();
        let html = page(&names, [1, 1, 1], vec![0; 3000], labels);
        let pictures = html.matches("src=\"data:").count();
        assert_eq!(pictures, CLASSES * PER_CLASS);
        assert!(html.contains("40 more classes"), "{html}");
        let html = page(&[], [1, 1, 1], vec![0; 3000], vec![None; 3000]);
        assert_eq!(html.matches("src=\"data:").count(), UNLABELLED);
    }
}
