//! Garbage never does more than end in an error.

use std::io::Cursor;

use kamil_models::gguf::GgufHeader;
use proptest::prelude::*;

/// A small valid file: one key of each interesting shape and one tensor of 4 floats.
pub(crate) fn tiny_model() -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend(1_u64.to_le_bytes());
    file.extend(4_u64.to_le_bytes());
    let text = |file: &mut Vec<u8>, text: &str| {
        file.extend((text.len() as u64).to_le_bytes());
        file.extend(text.as_bytes());
    };
    text(&mut file, "general.architecture");
    file.extend(8_u32.to_le_bytes());
    text(&mut file, "tiny");
    text(&mut file, "tiny.context_length");
    file.extend(4_u32.to_le_bytes());
    file.extend(77_u32.to_le_bytes());
    text(&mut file, "tokenizer.ggml.tokens");
    file.extend(9_u32.to_le_bytes());
    file.extend(8_u32.to_le_bytes());
    file.extend(2_u64.to_le_bytes());
    text(&mut file, "a");
    text(&mut file, "b");
    text(&mut file, "tiny.scale");
    file.extend(6_u32.to_le_bytes());
    file.extend(0.5_f32.to_le_bytes());
    text(&mut file, "weight");
    file.extend(1_u32.to_le_bytes());
    file.extend(4_u64.to_le_bytes());
    file.extend(0_u32.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend([0; 16]);
    file
}

fn read(bytes: &[u8]) -> Result<GgufHeader, String> {
    GgufHeader::read(Cursor::new(bytes), bytes.len() as u64)
}

#[test]
fn a_valid_header_is_understood() {
    let bytes = tiny_model();
    let header = read(&bytes).unwrap();
    assert_eq!(header.architecture(), Some("tiny"));
    assert_eq!(header.context_length(), Some(77));
    assert_eq!(header.required_bytes, bytes.len() as u64);
    assert!(header.chat_template().is_none() && !header.is_embedding_model());
}

#[test]
fn every_truncation_is_noticed() {
    let bytes = tiny_model();
    for len in 0..bytes.len() {
        let noticed = match read(&bytes[..len]) {
            Err(_) => true,
            Ok(header) => header.required_bytes > len as u64,
        };
        assert!(noticed, "cut at {len}");
    }
}

#[test]
fn huge_claims_are_refused_without_allocating() {
    let mut bytes = tiny_model();
    for (at, what) in [(8, "tensors"), (16, "keys"), (24, "key length")] {
        let saved = bytes.clone();
        bytes[at..at + 8].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
        assert!(read(&bytes).is_err(), "{what}");
        bytes = saved;
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = b"GGUF\x03\x00\x00\x00".to_vec();
        bytes.extend(tail);
        let _ = read(&bytes);
    }

    #[test]
    fn damaged_headers_never_panic(changes in proptest::collection::vec((0_usize..300, any::<u8>()), 1..8)) {
        let mut bytes = tiny_model();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let _ = read(&bytes);
    }
}
