//! An arbitrary file of a run is rejected by name, or has the same meaning after it is written and read
//! again.

use std::fs;

use proptest::prelude::*;

use super::*;
use test_support::damage::{cases, foreign};

fn valid() -> Vec<u8> {
    let config = "name = \"n\"\nseed = 1\n".to_owned();
    let mut run = StoredRun::queued(7, &RunId::new("n-7"), "n", config);
    run.state = StoredState::Failed;
    run.reason = "a \"reason\"\u{e9}\n".to_owned();
    let trace = r#"{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}"#;
    let run = run.in_trace(serde_json::from_str(trace).unwrap());
    serde_json::to_vec_pretty(&run).unwrap()
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn a_foreign_file_is_refused_or_says_the_same_again(json in foreign(vec![valid()])) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.json");
        fs::write(&file, json).unwrap();
        if let Ok(run) = read(&file, "n-7") {
            prop_assert!(run.format_version <= FORMAT_VERSION);
            fs::write(&file, serde_json::to_vec_pretty(&run).unwrap()).unwrap();
            prop_assert_eq!(read(&file, "n-7"), Ok(run));
        }
    }
}
