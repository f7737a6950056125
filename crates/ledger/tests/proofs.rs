//! Trees of random size: every proof holds, nothing near it does.

#![expect(clippy::unwrap_used, reason = "a test's own scaffolding fails loudly")]

use kamil_ledger::{
    Checkpoint, Frontier, Hash, LeafRecord, SignedNote, SigningKey, TaskProof, Tree, leaf_hash,
    verify_consistency, verify_inclusion, verify_task_proof,
};
use proptest::prelude::*;
use serde_json::json;

/// MTH of RFC 6962, section 2.1, word for word.
fn root_by_definition(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::of_empty_tree(),
        [leaf] => *leaf,
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(split);
            Hash::of_node(&root_by_definition(left), &root_by_definition(right))
        }
    }
}

fn leaves(size: u64) -> Vec<Hash> {
    (0..size).map(|index| leaf_hash(&index.to_be_bytes())).collect()
}

fn flip(hash: &Hash, bit: usize) -> Hash {
    let mut bytes = *hash.as_bytes();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes.into()
}

fn index_and_size() -> impl Strategy<Value = (u64, u64)> {
    (1..600u64).prop_flat_map(|size| (0..size, Just(size)))
}

#[test]
fn frontier_and_tree_have_the_root_of_the_definition_at_every_size() {
    let all = leaves(300);
    let tree: Tree = all.iter().copied().collect();
    let mut frontier = Frontier::new();
    for size in 0..=all.len() {
        let wanted = root_by_definition(&all[..size]);
        assert_eq!(frontier.root(), wanted, "frontier of {size}");
        assert_eq!(tree.root(size as u64).unwrap(), wanted, "tree of {size}");
        assert_eq!(Frontier::from_parts(frontier.size(), frontier.nodes().to_vec()).unwrap(), frontier);
        if let Some(leaf) = all.get(size) {
            frontier.push(*leaf);
        }
    }
}

#[test]
fn every_small_tree_proves_every_leaf_and_every_earlier_size() {
    let all = leaves(40);
    let tree: Tree = all.iter().copied().collect();
    for size in 1..=40u64 {
        let root = tree.root(size).unwrap();
        for index in 0..size {
            let proof = tree.inclusion_proof(index, size).unwrap();
            assert_eq!(verify_inclusion(&all[index as usize], index, size, &proof, &root), Ok(()));
        }
        for old in 1..=size {
            let proof = tree.consistency_proof(old, size).unwrap();
            let old_root = tree.root(old).unwrap();
            assert_eq!(verify_consistency(old, &old_root, size, &root, &proof), Ok(()), "{old} of {size}");
        }
    }
}

proptest! {
    #[test]
    fn inclusion_holds_and_any_change_breaks_it(
        (index, size) in index_and_size(), bit in 0..256usize, other in any::<prop::sample::Index>(),
    ) {
        let all = leaves(size);
        let tree: Tree = all.iter().copied().collect();
        let (leaf, root) = (all[index as usize], tree.root(size).unwrap());
        let proof = tree.inclusion_proof(index, size).unwrap();
        prop_assert_eq!(verify_inclusion(&leaf, index, size, &proof, &root), Ok(()));

        prop_assert!(verify_inclusion(&flip(&leaf, bit), index, size, &proof, &root).is_err());
        prop_assert!(verify_inclusion(&leaf, index, size, &proof, &flip(&root, bit)).is_err());
        for place in 0..proof.len() {
            let mut changed = proof.clone();
            changed[place] = flip(&changed[place], bit);
            prop_assert!(verify_inclusion(&leaf, index, size, &changed, &root).is_err());
            let mut shorter = proof.clone();
            shorter.remove(place);
            prop_assert!(verify_inclusion(&leaf, index, size, &shorter, &root).is_err());
        }
        let longer: Vec<Hash> = proof.iter().copied().chain([root]).collect();
        prop_assert!(verify_inclusion(&leaf, index, size, &longer, &root).is_err());
        let elsewhere = other.index(size as usize) as u64;
        prop_assert_eq!(verify_inclusion(&leaf, elsewhere, size, &proof, &root).is_ok(), elsewhere == index);
    }

    #[test]
    fn consistency_holds_and_any_change_breaks_it((index, new) in index_and_size(), bit in 0..256usize) {
        let old = index + 1;
        let tree: Tree = leaves(new).into_iter().collect();
        let (old_root, new_root) = (tree.root(old).unwrap(), tree.root(new).unwrap());
        let proof = tree.consistency_proof(old, new).unwrap();
        prop_assert_eq!(verify_consistency(old, &old_root, new, &new_root, &proof), Ok(()));

        prop_assert!(verify_consistency(old, &flip(&old_root, bit), new, &new_root, &proof).is_err());
        prop_assert!(verify_consistency(old, &old_root, new, &flip(&new_root, bit), &proof).is_err());
        for place in 0..proof.len() {
            let mut changed = proof.clone();
            changed[place] = flip(&changed[place], bit);
            prop_assert!(verify_consistency(old, &old_root, new, &new_root, &changed).is_err());
        }
        let longer: Vec<Hash> = proof.iter().copied().chain([new_root]).collect();
        prop_assert!(verify_consistency(old, &old_root, new, &new_root, &longer).is_err());
    }

    #[test]
    fn a_task_proof_verifies_offline_and_any_changed_byte_breaks_it(
        size in 3..60u64, place in any::<prop::sample::Index>(), mask in 1..=255u8,
    ) {
        let (bytes, key) = task_proof(size);
        let verified = verify_task_proof(&bytes, key.verifier()).unwrap();
        prop_assert_eq!(verified.records.len() as u64, size.div_ceil(3));
        prop_assert_eq!(verified.checkpoint.size(), size);

        let mut changed = bytes.clone();
        changed[place.index(bytes.len())] ^= mask;
        // White space may change; what the proof says may not.
        if let Ok(still) = verify_task_proof(&changed, key.verifier()) {
            prop_assert_eq!(still, verified);
        }
    }
}

fn task_proof(size: u64) -> (Vec<u8>, SigningKey) {
    let records: Vec<Vec<u8>> = (0..size)
        .map(|seq| LeafRecord {
            seq,
            task: Some(if seq % 3 == 0 { "mine" } else { "other" }.to_owned()),
            at: "2026-01-01T00:00:00Z".to_owned(),
            body: json!({"event": "step", "n": seq}),
        })
        .map(|record| record.encode())
        .collect();
    let tree: Tree = records.iter().map(|bytes| leaf_hash(bytes)).collect();
    let key = SigningKey::from_seed("kamil.local/test", &[3; 32]).unwrap();
    let note = signed_head(&tree, &key);
    let mine = records.iter().step_by(3).map(Vec::as_slice);
    (TaskProof::prove("mine", &note, &tree, mine).unwrap().to_bytes().unwrap(), key)
}

fn signed_head(tree: &Tree, key: &SigningKey) -> SignedNote {
    let root = tree.root(tree.size()).unwrap();
    Checkpoint::new(key.verifier().name(), tree.size(), root).unwrap().sign(key).unwrap()
}

#[test]
fn a_task_proof_for_another_task_or_by_another_key_is_refused() {
    let (bytes, key) = task_proof(9);
    let text = String::from_utf8(bytes).unwrap();
    let stranger = SigningKey::from_seed("kamil.local/test", &[4; 32]).unwrap();
    assert!(verify_task_proof(text.as_bytes(), stranger.verifier()).is_err());
    let renamed = text.replace("\"task\": \"mine\"", "\"task\": \"other\"");
    assert!(renamed != text && verify_task_proof(renamed.as_bytes(), key.verifier()).is_err());
    let later = text.replace("kamil-task-proof/1", "kamil-task-proof/2");
    assert!(verify_task_proof(later.as_bytes(), key.verifier()).unwrap_err().to_string().contains("/2"));
    let empty = TaskProof::prove("mine", &signed_head(&Tree::new(), &key), &Tree::new(), []).unwrap();
    assert!(empty.verify(key.verifier()).is_err());
}

#[test]
fn records_twice_or_out_of_order_are_refused() {
    let records: Vec<Vec<u8>> = (0..4)
        .map(|seq| LeafRecord { seq, task: Some("t".into()), at: String::new(), body: json!(seq) }.encode())
        .collect();
    let tree: Tree = records.iter().map(|bytes| leaf_hash(bytes)).collect();
    let key = SigningKey::from_seed("log", &[5; 32]).unwrap();
    let note = signed_head(&tree, &key);
    for order in [[0, 0], [2, 1]] {
        let chosen = order.map(|place: usize| records[place].as_slice());
        assert!(TaskProof::prove("t", &note, &tree, chosen).unwrap().verify(key.verifier()).is_err());
    }
}
