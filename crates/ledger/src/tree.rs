//! The Merkle tree of RFC 6962, section 2.1.

use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::proof::MerkleError;

/// The right edge of the tree: all that is needed to append leaves and to tell the root.
///
/// It holds one hash for each bit set in the size, at most 64, so it costs O(log n) to keep and to push to. It
/// serialises as `{"size": n, "nodes": ["…"]}` and is checked when it is read back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FrontierParts", into = "FrontierParts")]
pub struct Frontier {
    size: u64,
    nodes: Vec<Hash>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FrontierParts {
    size: u64,
    nodes: Vec<Hash>,
}

impl Frontier {
    /// The frontier of an empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a stored frontier up again: `nodes` are the roots of the perfect subtrees, the largest first.
    ///
    /// # Errors
    /// When the number of nodes is not the number of bits set in `size`.
    pub fn from_parts(size: u64, nodes: Vec<Hash>) -> Result<Self, MerkleError> {
        let wanted = size.count_ones() as usize;
        if nodes.len() != wanted {
            return Err(MerkleError::FrontierLength { size, wanted, found: nodes.len() });
        }
        Ok(Self { size, nodes })
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the perfect subtrees, the largest first.
    #[must_use]
    pub fn nodes(&self) -> &[Hash] {
        &self.nodes
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.nodes.pop() {
                node = Hash::of_node(&left, &node);
            }
        }
        self.nodes.push(node);
        self.size += 1;
    }

    /// The root of the tree as it stands.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut from_the_right = self.nodes.iter().rev();
        let Some(last) = from_the_right.next() else { return Hash::of_empty_tree() };
        from_the_right.fold(*last, |right, left| Hash::of_node(left, &right))
    }
}

impl TryFrom<FrontierParts> for Frontier {
    type Error = MerkleError;

    fn try_from(parts: FrontierParts) -> Result<Self, Self::Error> {
        Self::from_parts(parts.size, parts.nodes)
    }
}

impl From<Frontier> for FrontierParts {
    fn from(frontier: Frontier) -> Self {
        Self { size: frontier.size, nodes: frontier.nodes }
    }
}

/// The whole tree in memory, two hashes a leaf (64 bytes): it proves in O(log² n) for any size it has had.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// `levels[h][i]` is the root of the perfect subtree over the leaves `i·2^h .. (i+1)·2^h`.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// A tree without leaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        let mut height = 0;
        loop {
            if self.levels.len() == height {
                self.levels.push(Vec::new());
            }
            let level = &mut self.levels[height];
            level.push(node);
            let [.., left, right] = level.as_slice() else { return };
            if level.len() % 2 == 1 {
                return;
            }
            node = Hash::of_node(left, right);
            height += 1;
        }
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// The root the tree had when it held `size` leaves.
    ///
    /// # Errors
    /// When the tree never held that many.
    pub fn root(&self, size: u64) -> Result<Hash, MerkleError> {
        let size = self.known_size(size)?;
        Ok(if size == 0 { Hash::of_empty_tree() } else { self.subtree(0, size) })
    }

    /// The proof that leaf `index` is in the tree of `size` leaves (RFC 6962, 2.1.1), lowest sibling first.
    ///
    /// # Errors
    /// When the tree never held `size` leaves, or `index` is not below it.
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, MerkleError> {
        let end = self.known_size(size)?;
        if index >= size {
            return Err(MerkleError::IndexOutOfRange { index, size });
        }
        let (mut low, mut high, mut path) = (0, end, Vec::new());
        let leaf = index as usize;
        while high - low > 1 {
            let middle = low + split(high - low);
            if leaf < middle {
                path.push(self.subtree(middle, high));
                high = middle;
            } else {
                path.push(self.subtree(low, middle));
                low = middle;
            }
        }
        path.reverse();
        Ok(path)
    }

    /// The proof that the tree of `new` leaves begins with the tree of `old` leaves (RFC 6962, 2.1.2).
    ///
    /// # Errors
    /// When the tree never held `new` leaves, or `old` is 0 or above `new`.
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, MerkleError> {
        let end = self.known_size(new)?;
        if old == 0 || old > new {
            return Err(MerkleError::SizesOutOfOrder { old, new });
        }
        let old = old as usize;
        let (mut low, mut high, mut path) = (0, end, Vec::new());
        while old < high {
            let middle = low + split(high - low);
            if old <= middle {
                path.push(self.subtree(middle, high));
                high = middle;
            } else {
                path.push(self.subtree(low, middle));
                low = middle;
            }
        }
        // The verifier has the old root already when the old tree is this very subtree.
        if low > 0 {
            path.push(self.subtree(low, high));
        }
        path.reverse();
        Ok(path)
    }

    fn known_size(&self, size: u64) -> Result<usize, MerkleError> {
        if size > self.size() {
            return Err(MerkleError::SizeUnknown { size, held: self.size() });
        }
        Ok(size as usize)
    }

    /// The root over the leaves `low..high`, where `low` is a multiple of the smallest power of two that spans them.
    fn subtree(&self, low: usize, high: usize) -> Hash {
        let width = high - low;
        if width.is_power_of_two() {
            let height = width.trailing_zeros() as usize;
            return self.levels[height][low >> height];
        }
        let middle = low + split(width);
        Hash::of_node(&self.subtree(low, middle), &self.subtree(middle, high))
    }
}

impl FromIterator<Hash> for Tree {
    fn from_iter<I: IntoIterator<Item = Hash>>(leaves: I) -> Self {
        let mut tree = Self::new();
        leaves.into_iter().for_each(|leaf| tree.push(leaf));
        tree
    }
}

/// The largest power of two below `width`, for a width of 2 or more.
fn split(width: usize) -> usize {
    1 << (width - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::leaf_hash;

    #[test]
    fn an_empty_tree_has_the_hash_of_nothing() {
        let hex = hex::encode(Frontier::new().root().as_bytes());
        assert_eq!(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(Tree::new().root(0).unwrap(), Frontier::new().root());
    }

    #[test]
    fn a_frontier_with_a_node_missing_is_refused() {
        let mut frontier = Frontier::new();
        (0..7u8).for_each(|i| frontier.push(leaf_hash(&[i])));
        let text = serde_json::to_string(&frontier).unwrap();
        assert_eq!(serde_json::from_str::<Frontier>(&text).unwrap(), frontier);
        assert!(serde_json::from_str::<Frontier>(&text.replace("\"size\":7", "\"size\":8")).is_err());
    }

    #[test]
    fn sizes_the_tree_never_had_are_refused() {
        let tree: Tree = (0..5u8).map(|i| leaf_hash(&[i])).collect();
        assert!(tree.root(6).is_err());
        assert!(tree.inclusion_proof(5, 5).is_err());
        assert!(tree.inclusion_proof(0, 0).is_err());
        assert!(tree.consistency_proof(0, 5).is_err());
        assert!(tree.consistency_proof(4, 3).is_err());
    }
}
