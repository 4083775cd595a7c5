//! Samples that the student gets wrong.

use super::tested::Tested;
use crate::page::Thumbnails;

/// Samples that are shown. A picture takes some 3 KB, at most some 20 KB.
const SHOWN: usize = 24;

/// A sample whose class the student does not give.
#[derive(Debug, PartialEq)]
pub(super) struct Mistake<'a> {
    /// The position among the evaluated samples.
    pub sample: usize,
    /// The address of an `img` element, if the sample is an image that can be read.
    pub picture: Option<String>,
    /// The class that it should have.
    pub expected: &'a str,
    /// The class that the student gives.
    pub predicted: &'a str,
    /// The probability of that class in percent, if it is known.
    pub confidence: Option<String>,
    /// The class that the teacher gives, if it is known.
    pub teacher: Option<&'a str>,
}

/// The mistakes in which the student is most confident, and the number of all.
pub(super) fn mistakes<'a>(tested: &Tested<'a>) -> (Vec<Mistake<'a>>, usize) {
    let student = tested.student;
    let expected = tested.expected();
    let wrong = |sample: &usize| {
        expected[*sample].is_some_and(|expected| expected != student.predictions[*sample])
    };
    let mut wrong: Vec<usize> = (0..expected.len()).filter(wrong).collect();
    let all = wrong.len();
    let confidence = |sample: usize| Some(student.confidences.as_ref()?[sample]);
    let order = |sample: &usize| confidence(*sample).unwrap_or(0.0);
    wrong.sort_by(|a, b| order(b).total_cmp(&order(a)));
    wrong.truncate(SHOWN);
    let thumbnails = tested.samples.and_then(Thumbnails::of);
    let picture = |sample| thumbnails.as_ref()?.data_uri(sample as u32).ok();
    let teacher = |sample: usize| Some(tested.name(tested.teacher?.predictions[sample]));
    let shown = wrong.into_iter().map(|sample| Mistake {
        sample,
        picture: picture(sample),
        // Holds: only samples with an expected class are wrong.
        expected: expected[sample].map_or("?", |class| tested.name(class)),
        predicted: tested.name(student.predictions[sample]),
        confidence: confidence(sample).map(|it| format!("{:.0} %", 100.0 * it)),
        teacher: teacher(sample),
    });
    (shown.collect(), all)
}

#[cfg(test)]
mod tests {
    use datasets::InMemoryImages;

    use super::{
        super::tested::example::{LABELS, model, names},
        *,
    };

    #[test]
    fn the_most_confident_mistakes_come_first_with_their_pictures() {
        let (student, teacher) = (model([0, 1, 1, 0, 0, 2]), model([0, 0, 1, 1, 2, 2]));
        let names = names();
        let labels = LABELS.map(|label| label.map(|label| label as u32));
        let images = InMemoryImages::new([1, 1, 1], names.clone(), vec![0; 6], labels.to_vec());
        let tested = Tested {
            class_names: &names,
            labels: &LABELS,
            student: &student,
            teacher: Some(&teacher),
            samples: Some(&images),
        };
        let (shown, all) = mistakes(&tested);
        assert_eq!(all, 3);
        let samples: Vec<usize> = shown.iter().map(|mistake| mistake.sample).collect();
        assert_eq!(samples, [1, 4, 3]);
        let first = &shown[0];
        assert_eq!(
            (first.expected, first.predicted, first.teacher),
            ("cat", "<dog>", Some("cat"))
        );
        assert_eq!(first.confidence.as_deref(), Some("95 %"));
        let picture = first.picture.as_deref().unwrap();
        assert!(picture.starts_with("data:image/png;base64,"), "{picture}");
    }

    #[test]
    fn the_number_of_pictures_is_bounded() {
        let names = names();
        let mut student = model([0; 6]);
        student.predictions = vec![1; 1000];
        student.confidences = None;
        let tested = Tested {
            class_names: &names,
            labels: &[Some(0); 1000],
            student: &student,
            teacher: None,
            samples: None,
        };
        let (shown, all) = mistakes(&tested);
        assert_eq!((shown.len(), all), (SHOWN, 1000));
        assert_eq!(shown[0].sample, 0);
    }
}
