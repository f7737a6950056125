//! Checking proofs, as RFC 9162 sections 2.1.3.2 and 2.1.4.2 lay down.

use crate::hash::Hash;

/// Why a tree cannot prove something, or why a proof does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    /// The leaf is not in a tree of that size.
    #[error("leaf {index} is not in a tree of {size} leaves")]
    IndexOutOfRange {
        /// The leaf asked for, counted from 0.
        index: u64,
        /// The size of the tree, in leaves.
        size: u64,
    },
    /// Consistency needs 0 < old ≤ new.
    #[error("a tree of {old} leaves cannot be shown to be the beginning of one of {new}")]
    SizesOutOfOrder {
        /// The earlier size, in leaves.
        old: u64,
        /// The later size, in leaves.
        new: u64,
    },
    /// The tree does not reach that far.
    #[error("the tree holds {held} leaves, not {size}")]
    SizeUnknown {
        /// The size asked for, in leaves.
        size: u64,
        /// The size that is there, in leaves.
        held: u64,
    },
    /// The proof has too many or too few hashes for the sizes it is for.
    #[error("the proof has {found} hashes, which does not fit the tree's size")]
    ProofLength {
        /// Number of hashes in the proof.
        found: usize,
    },
    /// The proof leads to another root.
    #[error("the proof leads to another root than the stated one")]
    RootMismatch,
    /// A stored frontier does not fit its size.
    #[error("a frontier of {size} leaves has {wanted} nodes, not {found}")]
    FrontierLength {
        /// The stated size, in leaves.
        size: u64,
        /// Number of nodes such a frontier has.
        wanted: usize,
        /// Number of nodes found.
        found: usize,
    },
}

/// Checks that `leaf` is leaf `index` (from 0) of the tree with `size` leaves and this `root`.
///
/// # Errors
/// [`MerkleError::IndexOutOfRange`], [`MerkleError::ProofLength`] or [`MerkleError::RootMismatch`].
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), MerkleError> {
    if index >= size {
        return Err(MerkleError::IndexOutOfRange { index, size });
    }
    let length = || MerkleError::ProofLength { found: proof.len() };
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(length());
        }
        if node & 1 == 1 || node == last {
            hash = Hash::of_node(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = Hash::of_node(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(length());
    }
    if hash == *root { Ok(()) } else { Err(MerkleError::RootMismatch) }
}

/// Checks that the tree of `new` leaves with root `new_root` begins with the tree of `old` leaves with root `old_root`.
///
/// An empty tree is the beginning of every tree, so nothing can be learned from it: `old` must not be 0.
///
/// # Errors
/// [`MerkleError::SizesOutOfOrder`], [`MerkleError::ProofLength`] or [`MerkleError::RootMismatch`].
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), MerkleError> {
    if old == 0 || old > new {
        return Err(MerkleError::SizesOutOfOrder { old, new });
    }
    let length = || MerkleError::ProofLength { found: proof.len() };
    if old == new {
        if !proof.is_empty() {
            return Err(length());
        }
        return if old_root == new_root { Ok(()) } else { Err(MerkleError::RootMismatch) };
    }
    let mut siblings = proof.iter();
    let start = if old.is_power_of_two() { old_root } else { siblings.next().ok_or_else(length)? };
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*start, *start);
    for sibling in siblings {
        if last == 0 {
            return Err(length());
        }
        if node & 1 == 1 || node == last {
            old_hash = Hash::of_node(sibling, &old_hash);
            new_hash = Hash::of_node(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = Hash::of_node(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(length());
    }
    if old_hash == *old_root && new_hash == *new_root { Ok(()) } else { Err(MerkleError::RootMismatch) }
}
