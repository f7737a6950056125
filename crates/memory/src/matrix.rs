//! All embeddings in memory, for the exact scan: 100,000 of 384 dimensions take 154 MB and are read in about 10 ms.

use std::collections::HashMap;

use kamil_protocol::memory::MemoryKind;

/// Unit vectors by row number of the store.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    dims: usize,
    seqs: Vec<i64>,
    kinds: Vec<MemoryKind>,
    values: Vec<f32>,
    places: HashMap<i64, usize>,
}

/// A vector that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Similar {
    pub(crate) seq: i64,
    /// Cosine of the angle between it and the query, -1 to 1.
    pub(crate) cosine: f32,
}

impl Matrix {
    pub(crate) fn len(&self) -> usize {
        self.seqs.len()
    }

    /// Adds or replaces a vector. One of another dimension than those that are here is of another model: it empties the
    /// matrix first.
    pub(crate) fn put(&mut self, seq: i64, kind: MemoryKind, vector: &[f32]) {
        if vector.is_empty() {
            return;
        }
        if self.dims != vector.len() {
            *self = Self { dims: vector.len(), ..Self::default() };
        }
        if let Some(place) = self.places.get(&seq) {
            let begin = place * self.dims;
            self.values[begin..begin + self.dims].copy_from_slice(vector);
            return;
        }
        self.places.insert(seq, self.seqs.len());
        self.seqs.push(seq);
        self.kinds.push(kind);
        self.values.extend_from_slice(vector);
    }

    /// Removes a vector, and overwrites where it stood.
    pub(crate) fn remove(&mut self, seq: i64) {
        let Some(place) = self.places.remove(&seq) else { return };
        let last = self.seqs.len() - 1;
        self.seqs.swap_remove(place);
        self.kinds.swap_remove(place);
        let (begin, end) = (last * self.dims, (last + 1) * self.dims);
        self.values.copy_within(begin..end, place * self.dims);
        self.values[begin..end].fill(0.0);
        self.values.truncate(begin);
        if place < last {
            self.places.insert(self.seqs[place], place);
        }
    }

    /// The `limit` nearest of these kinds with at least this cosine, nearest first. The query must be a unit vector.
    pub(crate) fn nearest(
        &self,
        query: &[f32],
        kinds: &[MemoryKind],
        floor: f32,
        limit: usize,
    ) -> Vec<Similar> {
        if query.len() != self.dims || self.dims == 0 || limit == 0 {
            return Vec::new();
        }
        let mut best: Vec<Similar> = Vec::with_capacity(limit * 2);
        let mut least = floor;
        let rows = self.values.chunks_exact(self.dims);
        for ((row, seq), kind) in rows.zip(&self.seqs).zip(&self.kinds) {
            let cosine = dot(row, query);
            if cosine >= least && kinds.contains(kind) {
                best.push(Similar { seq: *seq, cosine });
                if best.len() == limit * 2 {
                    keep_best(&mut best, limit);
                    least = best.last().map_or(floor, |similar| similar.cosine);
                }
            }
        }
        keep_best(&mut best, limit);
        best
    }

    /// The cosine of one vector and the query.
    pub(crate) fn cosine(&self, seq: i64, query: &[f32]) -> Option<f32> {
        let place = *self.places.get(&seq)?;
        let row = self.values.get(place * self.dims..(place + 1) * self.dims)?;
        (row.len() == query.len()).then(|| dot(row, query))
    }
}

fn keep_best(best: &mut Vec<Similar>, limit: usize) {
    best.sort_by(|a, b| b.cosine.total_cmp(&a.cosine).then(b.seq.cmp(&a.seq)));
    best.truncate(limit);
}

/// Sixteen sums side by side, which the compiler turns into vector instructions.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0_f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: MemoryKind = MemoryKind::Semantic;

    fn unit(angle: f32) -> [f32; 2] {
        [angle.cos(), angle.sin()]
    }

    #[test]
    fn the_nearest_come_first_whatever_was_removed() {
        let mut matrix = Matrix::default();
        for seq in 0_u8..100 {
            matrix.put(i64::from(seq), KIND, &unit(f32::from(seq) / 100.0));
        }
        for seq in (0..100).step_by(3) {
            matrix.remove(seq);
        }
        matrix.remove(3);
        matrix.put(50, KIND, &unit(3.0));
        assert_eq!(matrix.len(), 66);
        let found = matrix.nearest(&unit(0.0), &[KIND], 0.2, 5);
        assert_eq!(found.iter().map(|similar| similar.seq).collect::<Vec<_>>(), [1, 2, 4, 5, 7]);
        assert!(matrix.nearest(&unit(3.0), &[KIND], 0.99, 5).iter().all(|similar| similar.seq == 50));
        assert!(matrix.nearest(&unit(0.0), &[MemoryKind::Episodic], 0.2, 5).is_empty());
        assert!((matrix.cosine(1, &unit(0.01)).unwrap() - 1.0).abs() < 1e-5);
        assert_eq!(matrix.cosine(3, &unit(0.0)), None);
    }

    #[test]
    fn another_dimension_starts_over() {
        let mut matrix = Matrix::default();
        matrix.put(1, KIND, &[1.0, 0.0]);
        matrix.put(2, KIND, &[1.0, 0.0, 0.0]);
        assert_eq!(matrix.len(), 1);
        assert!(matrix.nearest(&[1.0, 0.0], &[KIND], 0.0, 3).is_empty());
    }

    #[test]
    fn the_product_is_exact_for_any_length() {
        for len in [1, 15, 16, 17, 384] {
            let a: Vec<f32> = (0..len).map(|x| x as f32).collect();
            let b = vec![2.0; len];
            assert_eq!(dot(&a, &b), (len * (len - 1)) as f32);
        }
    }
}
