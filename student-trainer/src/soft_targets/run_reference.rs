//! The reference to a run's training samples, which all its teachers get.

use std::sync::{Arc, Mutex, PoisonError};

use soft_targets::DataReference;

use super::error::SoftTargetError;

/// The reference to a run's training samples. The first teacher that needs it makes it, because it takes the rendering of
/// some samples; the others wait for it. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct RunReference(Arc<Mutex<Option<DataReference>>>);

impl RunReference {
    /// The reference, which `make` makes if there is none yet.
    ///
    /// # Errors
    /// Those of `make`. The next call tries again.
    pub(super) fn get(
        &self,
        make: impl FnOnce() -> Result<DataReference, SoftTargetError>,
    ) -> Result<DataReference, SoftTargetError> {
        // A panic in `make` leaves none.
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reference) = &*made {
            return Ok(reference.clone());
        }
        let reference = make()?;
        Ok(made.insert(reference).clone())
    }
}

#[cfg(test)]
mod tests {
    use datasets::{Augmentation, InMemoryImages, Subset};

    use super::*;

    #[test]
    fn a_reference_is_made_once_and_again_after_an_error() {
        let names = vec!["a".to_owned(), "b".to_owned()];
        let labels = vec![Some(0), Some(1)];
        let images = InMemoryImages::new([1, 2, 2], names, (0..8).collect(), labels);
        let train = Subset::whole(Arc::new(images));
        let input = [1, 2, 2];
        let reference = DataReference::of(&train, 0, 0, Augmentation::default(), &input).unwrap();
        let shared = RunReference::default();
        let failed = shared.get(|| Err(SoftTargetError::Cancelled));
        assert!(matches!(failed, Err(SoftTargetError::Cancelled)));
        let made = shared.get(|| Ok(reference.clone())).unwrap();
        let again = shared.clone().get(|| panic!("it is there")).unwrap();
        assert_eq!([&made, &again], [&reference; 2]);
    }
}
