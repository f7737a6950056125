//! Merkle tree, checkpoints, signatures and proofs over bytes
