//! Dividing a table into rows to learn from and rows to be examined on.

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014): small, and the same
/// on every machine and in every version.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`; the bias of the remainder is below 2⁻⁴⁰ for the sizes used here.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or_default()
    }
}

/// Positions to train on and to test on, both sorted. Each class gives the same share to the test, at least one row
/// where it has two or more, and always leaves one to learn from.
pub(crate) fn stratified(
    labels: &[u32],
    classes: usize,
    test_fraction: f64,
    seed: u64,
) -> (Vec<usize>, Vec<usize>) {
    let mut random = SplitMix64(seed);
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for class in 0..classes {
        let mut rows: Vec<usize> = (0..labels.len()).filter(|row| labels[*row] as usize == class).collect();
        for last in (1..rows.len()).rev() {
            rows.swap(last, random.below(last + 1));
        }
        let wanted = (rows.len() as f64 * test_fraction).round() as usize;
        let count = wanted.max(1).min(rows.len().saturating_sub(1));
        test.extend(rows.drain(..count));
        train.extend(rows);
    }
    train.sort_unstable();
    test.sort_unstable();
    (train, test)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_generator_gives_the_published_numbers() {
        let mut random = SplitMix64(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    proptest! {
        #[test]
        fn every_row_is_on_one_side_and_every_class_can_be_learnt(
            labels in prop::collection::vec(0u32..4, 1..200), fraction in 0.05f64..0.9, seed: u64,
        ) {
            let (train, test) = stratified(&labels, 4, fraction, seed);
            let mut all = [train.clone(), test.clone()].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len()).collect::<Vec<_>>());
            for class in 0..4 {
                let count = |rows: &[usize]| rows.iter().filter(|row| labels[**row] == class).count();
                let total = labels.iter().filter(|label| **label == class).count();
                prop_assert_eq!(count(&train) > 0, total > 0);
                prop_assert_eq!(count(&test) > 0, total > 1);
            }
            prop_assert_eq!(stratified(&labels, 4, fraction, seed), (train, test));
        }
    }
}
