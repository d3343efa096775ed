//! Chunks that overlap, dealt out so that no hand has two that do.

/// Deals `chunks` (rising by their first time) to as few hands as it takes, each chunk to the first hand whose last one
/// has ended. `range` gives first and last time.
pub fn split_overlaps<C>(chunks: Vec<C>, range: impl Fn(&C) -> (i64, i64)) -> Vec<Vec<C>> {
    let mut hands: Vec<(i64, Vec<C>)> = Vec::new();
    for chunk in chunks {
        let (min, max) = range(&chunk);
        match hands.iter_mut().find(|(end, _)| *end < min) {
            Some((end, hand)) => {
                *end = max;
                hand.push(chunk);
            }
            None => hands.push((max, vec![chunk])),
        }
    }
    hands.into_iter().map(|(_, hand)| hand).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_goes_to_the_first_free_hand() {
        let chunks = vec![(0, 20), (0, 30), (21, 50), (31, 60), (100, 160), (160, 170)];
        let hands = split_overlaps(chunks, |chunk| *chunk);
        let wanted = [vec![(0, 20), (21, 50), (100, 160)], vec![(0, 30), (31, 60), (160, 170)]];
        assert_eq!(hands, wanted);
        assert!(split_overlaps(Vec::<(i64, i64)>::new(), |chunk| *chunk).is_empty());
    }
}
