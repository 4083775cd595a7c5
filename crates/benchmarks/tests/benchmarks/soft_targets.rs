//! Tests `retort-bench distill`, `retort-bench stream` and `retort-bench encodings`.

use crate::support::{FASHION_MNIST, exclusively, figures, number};

#[test]
fn streaming_gives_its_three_figures() {
    let _exclusive = exclusively();
    let figures = figures(&["stream", "--seconds", "1", "--teachers", "1,2"]);
    for teachers in ["1", "2"] {
        // A teacher cannot be faster than its waiting time, but so short a measurement may count
        // answers to earlier batches.
        let share = number(&figures, &format!("/scaling/{teachers}"));
        assert!(0.0 < share && share < 2.0, "{figures}");
    }
    assert!(number(&figures, "/transport_ratio") > 0.0);
    assert!(number(&figures, "/limit_samples_per_second") > 10_000.0);
    for (classes, needed) in [("10", 40.0), ("1000", 4_000.0), ("21841", 87_364.0)] {
        let bytes = number(&figures, &format!("/bytes_per_sample/wire/f32/{classes}"));
        assert!(needed < bytes && bytes < needed + 1.0, "{figures}");
    }
}

#[test]
fn encodings_are_compared_in_bytes_and_time() {
    let _exclusive = exclusively();
    let figures = figures(&["encodings", "--seconds", "0.05"]);
    assert_eq!(number(&figures, "/classes"), 1_000.0);
    for (encoding, disk, request) in [
        ("f32", 4_000.0, 0.0),
        ("f16", 2_000.0, 0.0),
        ("top-50", 208.0, 0.0),
        ("sampled-50", 100.0, 8.0),
    ] {
        let figure = |name: &str| number(&figures, &format!("/encodings/{encoding}/{name}"));
        assert_eq!(figure("disk"), disk, "{figures}");
        assert_eq!(figure("request"), request, "{figures}");
        let wire = figure("wire");
        assert!(disk < wire && wire < disk + 1.0, "{figures}");
        for time in ["encode_us", "decode_us"] {
            assert!(figure(&format!("{time}/minimum")) > 0.0, "{figures}");
        }
    }
}

#[test]
fn distilling_gives_its_ratios() {
    let _exclusive = exclusively();
    let figures = figures(&[
        "distill",
        "--samples",
        "1024",
        "--epochs",
        "1",
        "--data",
        FASHION_MNIST,
    ]);
    for key in ["recorded_ratio", "live_ratio", "cpu_ratio"] {
        let ratio = number(&figures, &format!("/{key}"));
        assert!(0.05 < ratio && ratio < 20.0, "{key}: {figures}");
        assert_eq!(
            number(&figures, &format!("/details/{key}/median")),
            ratio,
            "{figures}"
        );
    }
    assert!(number(&figures, "/details/supervised_samples_per_second/minimum") > 0.0);
}
