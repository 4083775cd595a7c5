//! The assignment problem: which class of the model each class of the data most likely is.

/// Gives each row of `counts` a column of its own, so that the sum of the chosen counts is largest: the Hungarian
/// method with potentials (Kuhn 1955, in the form of Jonker and Volgenant 1987), in O(rows² · columns).
///
/// # Panics
/// If there are more rows than columns, or rows of different lengths.
pub(super) fn best(counts: &[Vec<usize>]) -> Vec<usize> {
    let rows = counts.len();
    let columns = counts.first().map_or(0, Vec::len);
    assert!(rows <= columns, "{rows} rows cannot have {columns} columns");
    // Row and column 0 are not real. A negative count is a cost.
    let cost = |row: usize, column: usize| -(counts[row - 1][column - 1] as i64);
    let mut row_potential = vec![0_i64; rows + 1];
    let mut column_potential = vec![0_i64; columns + 1];
    let mut row_of = vec![0_usize; columns + 1];
    for row in 1..=rows {
        row_of[0] = row;
        let mut smallest = vec![i64::MAX; columns + 1];
        let mut previous = vec![0_usize; columns + 1];
        let mut is_visited = vec![false; columns + 1];
        let mut column = 0;
        while row_of[column] != 0 {
            is_visited[column] = true;
            let current = row_of[column];
            let (mut step, mut next) = (i64::MAX, 0);
            for other in (1..=columns).filter(|other| !is_visited[*other]) {
                let reduced =
                    cost(current, other) - row_potential[current] - column_potential[other];
                if reduced < smallest[other] {
                    smallest[other] = reduced;
                    previous[other] = column;
                }
                if smallest[other] < step {
                    step = smallest[other];
                    next = other;
                }
            }
            for other in 0..=columns {
                if is_visited[other] {
                    row_potential[row_of[other]] += step;
                    column_potential[other] -= step;
                } else if other > 0 {
                    smallest[other] -= step;
                }
            }
            column = next;
        }
        while column != 0 {
            row_of[column] = row_of[previous[column]];
            column = previous[column];
        }
    }
    let mut column_of = vec![0; rows];
    for column in 1..=columns {
        if row_of[column] != 0 {
            column_of[row_of[column] - 1] = column - 1;
        }
    }
    column_of
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn total(counts: &[Vec<usize>], columns: &[usize]) -> usize {
        counts
            .iter()
            .zip(columns)
            .map(|(row, column)| row[*column])
            .sum()
    }

    /// The largest sum, by trying everything.
    fn largest(counts: &[Vec<usize>], taken: &mut Vec<usize>) -> usize {
        let Some((row, rest)) = counts.split_first() else {
            return 0;
        };
        let mut best = 0;
        for (column, count) in row.iter().enumerate() {
            if !taken.contains(&column) {
                taken.push(column);
                best = best.max(count + largest(rest, taken));
                taken.pop();
            }
        }
        best
    }

    #[test]
    fn a_greedy_choice_is_not_enough() {
        let counts = [vec![9, 8], vec![8, 1]];
        assert_eq!(best(&counts), [1, 0]);
        assert_eq!(best(&[vec![0, 0, 5], vec![0, 4, 6]]), [2, 1]);
        assert_eq!(best(&[]), [0_usize; 0]);
    }

    proptest! {
        #![proptest_config(test_support::damage::cases(200))]

        #[test]
        fn no_other_assignment_has_a_larger_sum(
            counts in (1_usize..5).prop_flat_map(|rows| {
                let row = prop::collection::vec(0_usize..20, 5);
                prop::collection::vec(row, rows)
            }),
        ) {
            let columns = best(&counts);
            let mut different = columns.clone();
            different.sort_unstable();
            different.dedup();
            prop_assert_eq!(different.len(), counts.len());
            prop_assert_eq!(total(&counts, &columns), largest(&counts, &mut Vec::new()));
        }
    }
}
