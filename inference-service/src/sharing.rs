//! Selects a share of numbered requests.

/// Whether number `n`, from 0, is among the evenly spread `share` of all numbers. Exact to 2^53 requests.
pub(crate) fn is_selected(n: u64, share: f64) -> bool {
    let selected_before = |n: u64| (n as f64 * share).floor();
    selected_before(n + 1) > selected_before(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_spread_evenly() {
        for (share, expected) in [
            (0.5, 500),
            (0.1, 100),
            (0.001, 1),
            (0.3, 300),
            (1.0, 1000),
            (0.0, 0),
        ] {
            let selected = (0..1000).filter(|n| is_selected(*n, share)).count();
            assert!(selected.abs_diff(expected) <= 1, "{share}: {selected}");
        }
        let quarter: Vec<bool> = (0..8).map(|n| is_selected(n, 0.25)).collect();
        assert_eq!(quarter, [false, false, false, true].repeat(2));
    }
}
