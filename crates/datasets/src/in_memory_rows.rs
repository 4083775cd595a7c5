//! Rows of numbers in memory.

use std::{borrow::Cow, fmt};

use sha2::{Digest, Sha256};

use crate::{Sample, SampleError, SampleKind, Source};

/// Labelled rows of f32 values in memory.
#[derive(Clone, PartialEq)]
pub struct InMemoryRows {
    values: usize,
    class_names: Vec<String>,
    rows: Vec<f32>,
    labels: Vec<Option<u32>>,
    fingerprint: String,
}

impl InMemoryRows {
    /// Puts rows together with their labels, each an index into `class_names` or `None`. `rows` are
    /// [labels, `values`], finite.
    ///
    /// # Panics
    /// If the number of values does not fit, or a label has no class: the caller has checked its files.
    pub fn new(
        values: usize,
        class_names: Vec<String>,
        rows: Vec<f32>,
        labels: Vec<Option<u32>>,
    ) -> Self {
        assert_eq!(rows.len(), labels.len() * values);
        let has_class = |label: &u32| (*label as usize) < class_names.len();
        assert!(
            labels.iter().flatten().all(has_class),
            "every label has a class"
        );
        let mut hasher = Sha256::new();
        hasher.update("retort rows 1");
        hasher.update((values as u64).to_le_bytes());
        for value in &rows {
            hasher.update(value.to_le_bytes());
        }
        for label in &labels {
            hasher.update(label.unwrap_or(u32::MAX).to_le_bytes());
        }
        Self {
            values,
            class_names,
            rows,
            labels,
            fingerprint: hex::encode(hasher.finalize()),
        }
    }
}

impl Source for InMemoryRows {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn kind(&self) -> SampleKind {
        SampleKind::Row {
            values: self.values,
        }
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    fn label(&self, sample: u32) -> Option<u32> {
        self.labels[sample as usize]
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn read(&self, sample: u32) -> Result<Sample<'_>, SampleError> {
        let first = sample as usize * self.values;
        Ok(Sample::Row(Cow::Borrowed(
            &self.rows[first..first + self.values],
        )))
    }

    fn decodes(&self) -> bool {
        false
    }
}

impl fmt::Debug for InMemoryRows {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("InMemoryRows")
            .field("len", &self.labels.len())
            .field("values", &self.values)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}
