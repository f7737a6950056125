//! Runs third-party vectors from a folder: `conformance DIR`. Exit code 0 when all pass, 1 when any fails or cannot run.
//!
//! - `DIR/merkle/testdata/{inclusion,consistency}`: proofs good and bad, from transparency-dev/merkle.
//! - `DIR/cctv/ed25519/ed25519vectors.json`: edge cases of Ed25519 points, from C2SP/CCTV.
//! - `DIR/jcs/testdata/{input,output}`: canonical JSON, from cyberphone/json-canonicalization.

#![expect(clippy::print_stdout, reason = "this program's output is its result")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kamil_ledger::{Hash, VerifierKey, canonical_json, leaf_hash, verify_consistency, verify_inclusion};
use serde::Deserialize;

type Outcome<T> = Result<T, Box<dyn Error>>;

#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
}

impl Count {
    fn take(&mut self, case: &str, passed: bool) {
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
            println!("FAILED {case}");
        }
    }
}

type Suite = fn(&Path, &mut Count) -> Outcome<()>;

const SUITES: [(&str, &str, Suite); 4] = [
    ("Merkle inclusion", "merkle/testdata/inclusion", inclusion),
    ("Merkle consistency", "merkle/testdata/consistency", consistency),
    ("Ed25519 edge cases", "cctv/ed25519", ed25519),
    ("canonical JSON", "jcs/testdata", canonical),
];

fn main() -> ExitCode {
    let Some(root) = std::env::args_os().nth(1).map(PathBuf::from) else {
        println!("usage: conformance DIR, where DIR has the folders merkle, cctv and jcs");
        return ExitCode::from(2);
    };
    let mut total = Count::default();
    for (name, folder, suite) in SUITES {
        let mut count = Count::default();
        let folder = root.join(folder);
        if let Err(error) = suite(&folder, &mut count) {
            count.take(&format!("{name}: cannot be run from {}: {error}", folder.display()), false);
        } else if count.passed + count.failed == 0 {
            count.take(&format!("{name}: no case in {}", folder.display()), false);
        }
        println!("{name}: {} passed, {} failed", count.passed, count.failed);
        total.passed += count.passed;
        total.failed += count.failed;
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The JSON files below a folder, in order.
fn json_files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn hash(text: &str) -> Option<Hash> {
    text.parse().ok()
}

/// A root. Some cases carry a placeholder that is no hash, where only equality matters: its digest stands in for it.
fn root(text: &str) -> Outcome<Hash> {
    let bytes = STANDARD.decode(text)?;
    Ok(Hash::try_from(bytes.as_slice()).unwrap_or_else(|_| leaf_hash(&bytes)))
}

fn proof(hashes: Option<Vec<String>>) -> Option<Vec<Hash>> {
    hashes.unwrap_or_default().iter().map(|text| hash(text)).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inclusion {
    leaf_idx: u64,
    tree_size: u64,
    root: String,
    leaf_hash: String,
    proof: Option<Vec<String>>,
    want_err: bool,
}

fn inclusion(folder: &Path, count: &mut Count) -> Outcome<()> {
    for path in json_files(folder)? {
        let case: Inclusion = serde_json::from_slice(&fs::read(&path)?)?;
        let accepted = (|| {
            let (root, leaf) = (hash(&case.root)?, hash(&case.leaf_hash)?);
            verify_inclusion(&leaf, case.leaf_idx, case.tree_size, &proof(case.proof)?, &root).ok()
        })();
        count.take(&path.display().to_string(), accepted.is_some() != case.want_err);
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Consistency {
    size1: u64,
    size2: u64,
    root1: String,
    root2: String,
    proof: Option<Vec<String>>,
    want_err: bool,
}

fn consistency(folder: &Path, count: &mut Count) -> Outcome<()> {
    for path in json_files(folder)? {
        let case: Consistency = serde_json::from_slice(&fs::read(&path)?)?;
        let (old_root, new_root) = (root(&case.root1)?, root(&case.root2)?);
        let accepted = proof(case.proof).is_some_and(|proof| {
            verify_consistency(case.size1, &old_root, case.size2, &new_root, &proof).is_ok()
        });
        count.take(&path.display().to_string(), accepted != case.want_err);
    }
    Ok(())
}

#[derive(Deserialize)]
struct Ed25519 {
    number: u64,
    key: String,
    sig: String,
    msg: String,
    flags: Option<Vec<String>>,
}

/// Strict verification refuses every point of low order and every encoding that is not canonical, and with them
/// whatever only verifies with the cofactor. It takes the rest.
fn ed25519(folder: &Path, count: &mut Count) -> Outcome<()> {
    let cases: Vec<Ed25519> = serde_json::from_slice(&fs::read(folder.join("ed25519vectors.json"))?)?;
    for case in cases {
        let key: [u8; 32] = hex::decode(&case.key)?.try_into().map_err(|_| "a key of another length")?;
        let signature = hex::decode(&case.sig)?;
        let accepted = VerifierKey::from_bytes("vector", &key)
            .is_ok_and(|key| key.accepts(case.msg.as_bytes(), &signature));
        let wanted = !case
            .flags
            .iter()
            .flatten()
            .any(|flag| !matches!(flag.as_str(), "low_order_component_A" | "low_order_component_R"));
        count.take(&format!("Ed25519 case {} {:?}", case.number, case.flags), accepted == wanted);
    }
    Ok(())
}

fn canonical(folder: &Path, count: &mut Count) -> Outcome<()> {
    for path in json_files(&folder.join("input"))? {
        let name = path.file_name().ok_or("a file without a name")?;
        let value: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
        let wanted = fs::read(folder.join("output").join(name))?;
        count.take(&path.display().to_string(), canonical_json(&value).as_bytes() == wanted);
    }
    Ok(())
}
