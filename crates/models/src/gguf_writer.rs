//! Writing a small GGUF file (version 3, little-endian; ggml's `docs/gguf.md`).
//!
//! The same calls give the same bytes, so that the result can be pinned by its hash.

use crate::gguf::{DEFAULT_ALIGNMENT, MAGIC};

/// How the numbers of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    F32,
    F16,
}

impl Storage {
    fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
        }
    }
}

/// Collects metadata and tensors, then lays them out.
#[derive(Debug, Default)]
pub(crate) struct GgufWriter {
    keys: u64,
    metadata: Vec<u8>,
    tensors: u64,
    descriptions: Vec<u8>,
    data: Vec<u8>,
}

impl GgufWriter {
    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.key(key, 8);
        put_text(&mut self.metadata, value);
    }

    pub(crate) fn u32(&mut self, key: &str, value: u32) {
        self.key(key, 4);
        self.metadata.extend(value.to_le_bytes());
    }

    pub(crate) fn f32(&mut self, key: &str, value: f32) {
        self.key(key, 6);
        self.metadata.extend(value.to_le_bytes());
    }

    pub(crate) fn bool(&mut self, key: &str, value: bool) {
        self.key(key, 7);
        self.metadata.push(u8::from(value));
    }

    pub(crate) fn texts(&mut self, key: &str, values: &[String]) {
        self.key(key, 9);
        self.metadata.extend(8_u32.to_le_bytes());
        self.metadata.extend((values.len() as u64).to_le_bytes());
        for value in values {
            put_text(&mut self.metadata, value);
        }
    }

    pub(crate) fn i32s(&mut self, key: &str, values: &[i32]) {
        self.key(key, 9);
        self.metadata.extend(5_u32.to_le_bytes());
        self.metadata.extend((values.len() as u64).to_le_bytes());
        for value in values {
            self.metadata.extend(value.to_le_bytes());
        }
    }

    /// Adds a tensor of `shape` (slowest dimension first, as in safetensors) from little-endian 32-bit floats.
    pub(crate) fn tensor(&mut self, name: &str, shape: &[usize], values: &[u8], storage: Storage) {
        put_text(&mut self.descriptions, name);
        self.descriptions.extend(u32::try_from(shape.len()).unwrap_or(u32::MAX).to_le_bytes());
        for dimension in shape.iter().rev() {
            self.descriptions.extend((*dimension as u64).to_le_bytes());
        }
        self.descriptions.extend(storage.code().to_le_bytes());
        self.descriptions.extend((self.data.len() as u64).to_le_bytes());
        match storage {
            Storage::F32 => self.data.extend_from_slice(values),
            Storage::F16 => {
                for bytes in values.chunks_exact(4) {
                    let value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                    self.data.extend(half::f16::from_f32(value).to_le_bytes());
                }
            }
        }
        pad(&mut self.data);
        self.tensors += 1;
    }

    /// The whole file.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut file =
            Vec::with_capacity(self.metadata.len() + self.descriptions.len() + self.data.len() + 64);
        file.extend(MAGIC);
        file.extend(3_u32.to_le_bytes());
        file.extend(self.tensors.to_le_bytes());
        file.extend(self.keys.to_le_bytes());
        file.extend(self.metadata);
        file.extend(self.descriptions);
        pad(&mut file);
        file.extend(self.data);
        file
    }

    fn key(&mut self, key: &str, kind: u32) {
        put_text(&mut self.metadata, key);
        self.metadata.extend(kind.to_le_bytes());
        self.keys += 1;
    }
}

fn put_text(target: &mut Vec<u8>, text: &str) {
    target.extend((text.len() as u64).to_le_bytes());
    target.extend_from_slice(text.as_bytes());
}

fn pad(target: &mut Vec<u8>) {
    let alignment = usize::try_from(DEFAULT_ALIGNMENT).unwrap_or(32);
    target.resize(target.len().next_multiple_of(alignment), 0);
}
