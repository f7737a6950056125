//! Reading the header of a GGUF file, and finding out whether the file is whole.
//!
//! Format: ggml's `docs/gguf.md`, versions 2 and 3, little-endian. Every count and length in the file is checked
//! against the bytes that are really there before anything is allocated, so that garbage ends in an error.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::ModelError;

pub(crate) const MAGIC: [u8; 4] = *b"GGUF";
pub(crate) const DEFAULT_ALIGNMENT: u64 = 32;

const MAX_KEYS: u64 = 65_536;
const MAX_TENSORS: u64 = 1 << 20;
const MAX_STRING_BYTES: u64 = 16 << 20;
const MAX_ARRAY_DEPTH: u32 = 4;
const MAX_DIMENSIONS: u32 = 4;

/// A metadata value. Arrays are passed over while reading: only their length is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum GgufValue {
    /// Any of the unsigned integer types, and non-negative values of the signed ones.
    Unsigned(u64),
    /// A negative integer.
    Signed(i64),
    /// A 32- or 64-bit float.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A UTF-8 string.
    Text(String),
    /// The number of elements of an array.
    ArrayLength(u64),
}

/// What the header of a GGUF file says.
#[derive(Debug, Clone)]
pub struct GgufHeader {
    /// Format version: 2 or 3.
    pub version: u32,
    /// Number of tensors.
    pub tensor_count: u64,
    /// Metadata by key.
    pub metadata: BTreeMap<String, GgufValue>,
    /// Bytes that the file needs to hold every tensor it names.
    pub required_bytes: u64,
}

impl GgufHeader {
    /// Reads the header of the file at `path` and checks that all tensor data is there.
    ///
    /// # Errors
    /// [`ModelError::BrokenFile`] if the file is not GGUF, is damaged or truncated; [`ModelError::Io`] if it cannot
    /// be read.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let broken = |reason: String| ModelError::BrokenFile { path: path.to_path_buf(), reason };
        let io = |source| ModelError::Io { operation: "read", path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        if !meta.is_file() {
            return Err(broken("it is not a regular file".into()));
        }
        let header = Self::read(BufReader::new(file), meta.len()).map_err(broken)?;
        if header.required_bytes > meta.len() {
            return Err(broken(format!(
                "it is truncated: {} bytes of {} are there",
                meta.len(),
                header.required_bytes
            )));
        }
        Ok(header)
    }

    /// Reads a header from `source`, of which `len` bytes exist. The error says what is wrong with it.
    ///
    /// # Errors
    /// A sentence about the first thing found to be wrong.
    pub fn read<R: Read + Seek>(source: R, len: u64) -> Result<Self, String> {
        let mut cursor = Cursor { source, position: 0, len };
        let magic = cursor.bytes::<4>().map_err(|_| "it is too short to be a GGUF file".to_owned())?;
        if magic != MAGIC {
            return Err("it does not begin with the GGUF magic, so it is not a GGUF file".into());
        }
        let version = cursor.u32()?;
        if !(2..=3).contains(&version) {
            return Err(format!("GGUF version {version} is not supported (2 and 3 are)"));
        }
        let tensor_count = cursor.u64()?;
        let key_count = cursor.u64()?;
        if tensor_count > MAX_TENSORS || key_count > MAX_KEYS {
            return Err(format!("it claims {tensor_count} tensors and {key_count} keys, which is too many"));
        }
        let mut metadata = BTreeMap::new();
        for _ in 0..key_count {
            let key = cursor.text()?;
            let kind = cursor.u32()?;
            let value = cursor.value(kind, 0)?;
            metadata.insert(key, value);
        }
        let alignment = match metadata.get("general.alignment") {
            Some(GgufValue::Unsigned(n)) if n.is_power_of_two() && *n <= 1 << 20 => *n,
            Some(_) => return Err("general.alignment is not a power of two".into()),
            None => DEFAULT_ALIGNMENT,
        };
        let mut data_bytes = 0_u64;
        for _ in 0..tensor_count {
            data_bytes = data_bytes.max(cursor.tensor_end()?);
        }
        let data_start = if tensor_count == 0 {
            cursor.position
        } else {
            cursor.position.checked_next_multiple_of(alignment).ok_or("its size overflows")?
        };
        let required_bytes = data_start.checked_add(data_bytes).ok_or("its size overflows")?;
        Ok(Self { version, tensor_count, metadata, required_bytes })
    }

    /// A text value.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key) {
            Some(GgufValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A non-negative integer value.
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key) {
            Some(GgufValue::Unsigned(n)) => Some(*n),
            _ => None,
        }
    }

    /// `general.architecture`, for instance `qwen2` or `bert`.
    pub fn architecture(&self) -> Option<&str> {
        self.text("general.architecture")
    }

    /// `general.name`.
    pub fn name(&self) -> Option<&str> {
        self.text("general.name")
    }

    /// The chat template, if the file carries one.
    pub fn chat_template(&self) -> Option<&str> {
        self.text("tokenizer.chat_template")
    }

    /// Longest context the model was trained for, in tokens.
    pub fn context_length(&self) -> Option<u64> {
        self.of_architecture("context_length")
    }

    /// Number of layers.
    pub fn block_count(&self) -> Option<u64> {
        self.of_architecture("block_count")
    }

    /// Width of the model.
    pub fn embedding_length(&self) -> Option<u64> {
        self.of_architecture("embedding_length")
    }

    /// Number of attention heads.
    pub fn head_count(&self) -> Option<u64> {
        self.of_architecture("attention.head_count")
    }

    /// Number of key/value heads (the head count where the file does not say).
    pub fn head_count_kv(&self) -> Option<u64> {
        self.of_architecture("attention.head_count_kv").or_else(|| self.head_count())
    }

    /// Bytes of key/value cache that one token of context takes with 16-bit entries, as far as the header tells.
    pub fn kv_bytes_per_token(&self) -> Option<u64> {
        let head_width = match self.of_architecture("attention.key_length") {
            Some(width) => width,
            None => self.embedding_length()?.checked_div(self.head_count()?)?,
        };
        let per_layer = self.head_count_kv()?.checked_mul(head_width)?.checked_mul(2 * 2)?;
        self.block_count()?.checked_mul(per_layer)
    }

    /// Whether the file is a sentence-embedding model (it names a pooling), not a generating one.
    pub fn is_embedding_model(&self) -> bool {
        self.of_architecture("pooling_type").is_some_and(|kind| kind > 0)
    }

    fn of_architecture(&self, key: &str) -> Option<u64> {
        self.unsigned(&format!("{}.{key}", self.architecture()?))
    }
}

/// A reader that knows how many bytes remain, so that no length in the file is believed.
struct Cursor<R> {
    source: R,
    position: u64,
    len: u64,
}

impl<R: Read + Seek> Cursor<R> {
    fn remaining(&self) -> u64 {
        self.len.saturating_sub(self.position)
    }

    fn claim(&mut self, count: u64) -> Result<(), String> {
        if count > self.remaining() {
            return Err(format!("its header ends too early (at byte {})", self.len));
        }
        self.position += count;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.claim(N as u64)?;
        let mut buffer = [0; N];
        self.source.read_exact(&mut buffer).map_err(|error| format!("it cannot be read: {error}"))?;
        Ok(buffer)
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn text(&mut self) -> Result<String, String> {
        let len = self.u64()?;
        if len > MAX_STRING_BYTES {
            return Err(format!("it has a string of {len} bytes, which is too long"));
        }
        self.claim(len)?;
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| "it has a string too long".to_owned())?];
        self.source.read_exact(&mut bytes).map_err(|error| format!("it cannot be read: {error}"))?;
        String::from_utf8(bytes).map_err(|_| "it has a string that is not UTF-8".into())
    }

    fn skip(&mut self, count: u64) -> Result<(), String> {
        self.claim(count)?;
        self.source
            .seek(SeekFrom::Start(self.position))
            .map_err(|error| format!("it cannot be read: {error}"))?;
        Ok(())
    }

    fn value(&mut self, kind: u32, depth: u32) -> Result<GgufValue, String> {
        Ok(match kind {
            0 => GgufValue::Unsigned(u64::from(self.bytes::<1>()?[0])),
            1 => integer(i64::from(i8::from_le_bytes(self.bytes()?))),
            2 => GgufValue::Unsigned(u64::from(u16::from_le_bytes(self.bytes()?))),
            3 => integer(i64::from(i16::from_le_bytes(self.bytes()?))),
            4 => GgufValue::Unsigned(u64::from(self.u32()?)),
            5 => integer(i64::from(i32::from_le_bytes(self.bytes()?))),
            6 => GgufValue::Float(f64::from(f32::from_le_bytes(self.bytes()?))),
            7 => GgufValue::Bool(self.bytes::<1>()?[0] != 0),
            8 => GgufValue::Text(self.text()?),
            9 => {
                let count = self.array(depth)?;
                GgufValue::ArrayLength(count)
            }
            10 => GgufValue::Unsigned(self.u64()?),
            11 => integer(i64::from_le_bytes(self.bytes()?)),
            12 => GgufValue::Float(f64::from_le_bytes(self.bytes()?)),
            other => return Err(format!("it has a value of unknown type {other}")),
        })
    }

    fn array(&mut self, depth: u32) -> Result<u64, String> {
        if depth >= MAX_ARRAY_DEPTH {
            return Err("its arrays are nested too deeply".into());
        }
        let kind = self.u32()?;
        let count = self.u64()?;
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 | 9 => {
                for _ in 0..count {
                    if kind == 8 {
                        let len = self.u64()?;
                        self.skip_short(len)?;
                    } else {
                        self.array(depth + 1)?;
                    }
                }
                return Ok(count);
            }
            other => return Err(format!("it has an array of unknown type {other}")),
        };
        self.skip(count.checked_mul(width).ok_or("its header overflows")?)?;
        Ok(count)
    }

    /// Seeking would drop the read buffer for each of a vocabulary's hundred thousand short strings.
    fn skip_short(&mut self, count: u64) -> Result<(), String> {
        if count > 4096 {
            return self.skip(count);
        }
        self.claim(count)?;
        let copied = std::io::copy(&mut self.source.by_ref().take(count), &mut std::io::sink())
            .map_err(|error| format!("it cannot be read: {error}"))?;
        if copied == count { Ok(()) } else { Err("its header ends too early".into()) }
    }

    /// Where the next tensor of the list ends, counted from the start of the data section.
    fn tensor_end(&mut self) -> Result<u64, String> {
        let name = self.text()?;
        let dimensions = self.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(format!("tensor {name:?} has {dimensions} dimensions"));
        }
        let mut elements = 1_u64;
        for _ in 0..dimensions {
            elements = elements.checked_mul(self.u64()?).ok_or("a tensor's size overflows")?;
        }
        let kind = self.u32()?;
        let offset = self.u64()?;
        let bytes = tensor_bytes(kind, elements).ok_or("a tensor's size overflows")?;
        offset.checked_add(bytes).ok_or_else(|| "a tensor's size overflows".into())
    }
}

fn integer(value: i64) -> GgufValue {
    u64::try_from(value).map_or(GgufValue::Signed(value), GgufValue::Unsigned)
}

/// Bytes of `elements` values of ggml type `kind`; 0 for a type that is newer than this table.
fn tensor_bytes(kind: u32, elements: u64) -> Option<u64> {
    let (per_block, block_bytes) = match kind {
        0 | 26 => (1, 4),
        1 | 25 | 30 => (1, 2),
        2 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        9 => (32, 36),
        10 => (256, 84),
        11 => (256, 110),
        12 => (256, 144),
        13 => (256, 176),
        14 => (256, 210),
        15 => (256, 292),
        24 => (1, 1),
        27 | 28 => (1, 8),
        _ => return Some(0),
    };
    elements.div_ceil(per_block).checked_mul(block_bytes)
}
