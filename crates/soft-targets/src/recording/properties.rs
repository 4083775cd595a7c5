//! An arbitrary description is rejected, or has the same meaning after it is written and read again.

use proptest::prelude::*;
use test_support::damage::{cases, foreign, in_modest_memory};

use super::*;
use crate::{limits::MAX_SHARD_BYTES, shard::properties::identity};

fn valid() -> Vec<u8> {
    let class_names = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
    let description = Description::new(&identity("top-2"), 4, &class_names);
    description.unwrap().to_json()
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn a_foreign_description_is_refused_or_says_the_same_again(json in foreign(vec![valid()])) {
        let folder = Path::new("/recordings/one");
        let Ok(recording) = in_modest_memory(|| Recording::from_json(&json, folder)) else {
            return Ok(());
        };
        let again = Recording::from_json(&recording.description_json(), folder).unwrap();
        prop_assert_eq!(&again.id, &recording.id);
        prop_assert_eq!(again.samples_per_shard(), recording.samples_per_shard());
        prop_assert_eq!(again.class_names(), recording.class_names());
        // Sizes derived from the description stay within their bounds.
        let last = recording.shards_per_view() - 1;
        prop_assert!(!recording.samples(last).is_empty());
        prop_assert_eq!(recording.samples(last).end, recording.identity().images.samples);
        let bytes = recording.file_bytes(ShardId { view: 0, shard: 0 });
        prop_assert!(bytes <= MAX_SHARD_BYTES + (1 << 20), "{}", bytes);
        prop_assert!(!recording.identity().folder_name().contains(['/', '.']));
    }
}
