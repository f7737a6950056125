//! SHA-256 of bytes and files.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

const BUFFER_BYTES: usize = 1 << 20;

pub(crate) fn hex_sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub(crate) fn file_sha256(path: &Path) -> io::Result<String> {
    range_sha256(&mut File::open(path)?, u64::MAX)
}

/// Of the next `bytes` bytes, or as many as there are.
pub(crate) fn range_sha256(source: &mut impl Read, bytes: u64) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut left = source.take(bytes);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match left.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}
