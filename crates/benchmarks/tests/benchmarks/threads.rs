//! Tests `retort-bench threads`.

use crate::support::{FASHION_MNIST, exclusively, figures, number};

#[test]
fn each_number_of_spins_is_measured_alone_and_beside_busy_loops() {
    let _exclusive = exclusively();
    let network = ["--network", "demo-student", "--data", FASHION_MNIST];
    let amount = ["--spins", "0,1000", "--samples", "256", "--epochs", "1"];
    let figures = figures(&[&["threads"][..], &network, &amount].concat());
    for spins in ["0", "1000"] {
        for computation in ["training", "forward"] {
            for figure in ["alone", "beside", "beside_ratio", "alone_ratio"] {
                let key = format!("/spins/{spins}/{computation}/{figure}/median");
                assert!(number(&figures, &key) > 0.0, "{figures}");
            }
        }
    }
    let most = number(&figures, "/spins/1000/training/alone_ratio/median");
    assert_eq!(most, 1.0, "{figures}");
}
