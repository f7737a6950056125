//! Vectors for texts, by a small model that is loaded when it is first asked.

use std::path::PathBuf;

use kamil_inference::Embedder;
use kamil_models::CatalogueEntry;
use kamil_protocol::{
    ErrorCode, Problem,
    node::ModelOffer,
    openai::{EmbeddingEntry, EmbeddingsReply, EmbeddingsRequest, OpenAiUsage},
};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::{
    admission::Admission,
    engine::llama::{chain, problem, sentence},
};

/// Most texts of one request.
const MAX_TEXTS: usize = 256;
/// Longest text, in bytes; the model reads only the beginning of a longer one.
const MAX_TEXT_BYTES: usize = 64 * 1024;
const SLOTS: u32 = 1;
const QUEUE: u32 = 8;
/// A caller that does not mind which model it is may say so.
const ANY: &str = "kamil";

/// An embedding model.
#[derive(Debug)]
pub(crate) struct Embeddings {
    entry: &'static CatalogueEntry,
    path: PathBuf,
    admission: Admission,
    embedder: OnceCell<Embedder>,
}

impl Embeddings {
    pub(crate) fn new(entry: &'static CatalogueEntry, path: PathBuf) -> Self {
        Self { entry, path, admission: Admission::new(SLOTS, QUEUE), embedder: OnceCell::new() }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.entry.name
    }

    pub(crate) fn is_called(&self, name: &str) -> bool {
        name == ANY || self.entry.is_called(name)
    }

    pub(crate) fn offer(&self) -> ModelOffer {
        ModelOffer {
            name: self.entry.name.to_owned(),
            engine: "llama.cpp".to_owned(),
            resident: false,
            bytes: self.entry.bytes,
            context_tokens: self.entry.context_tokens,
            specializations: self.entry.specializations.iter().map(|&word| word.to_owned()).collect(),
            prefill_tokens_per_s: None,
            decode_tokens_per_s: None,
            generates: false,
        }
    }

    /// One vector for each text.
    ///
    /// # Errors
    /// `validation_failed`, `busy`, `model_unusable`.
    pub(crate) async fn answer(&self, request: &EmbeddingsRequest) -> Result<EmbeddingsReply, Problem> {
        let texts = texts(&request.input)?;
        let mut ticket = self.admission.enter()?;
        ticket.slot().await;
        let embedder = self.embedder.get_or_try_init(|| self.load()).await?;
        let vectors = embedder.embed(texts).await.map_err(|error| problem(&error))?;
        let data = vectors.into_iter().zip(0..).map(|(embedding, index)| EmbeddingEntry {
            object: "embedding".to_owned(),
            index,
            embedding,
        });
        Ok(EmbeddingsReply {
            object: "list".to_owned(),
            data: data.collect(),
            model: self.entry.name.to_owned(),
            usage: OpenAiUsage::default(),
        })
    }

    async fn load(&self) -> Result<Embedder, Problem> {
        let path = self.path.clone();
        let loaded = tokio::task::spawn_blocking(move || Embedder::load(&path)).await;
        let unusable = |reason: String| {
            Problem::new(ErrorCode::ModelUnusable, format!("{}.", sentence(&reason))).next(format!(
                "Fetch it again: `kamil models rm {0}`, `kamil models pull {0}`.",
                self.entry.name
            ))
        };
        loaded.map_err(|error| unusable(error.to_string()))?.map_err(|error| unusable(chain(&error)))
    }
}

/// A text, or a list of texts.
fn texts(input: &Value) -> Result<Vec<String>, Problem> {
    let invalid = |reason: String| Problem::new(ErrorCode::ValidationFailed, format!("`input` {reason}."));
    let texts: Vec<String> = match input {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) if !items.is_empty() && items.len() <= MAX_TEXTS => {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
            texts.ok_or_else(|| invalid("must hold texts; lists of tokens are not taken".to_owned()))?
        }
        Value::Array(items) => {
            return Err(invalid(format!("holds {} texts; 1 to {MAX_TEXTS} are allowed", items.len())));
        }
        _ => return Err(invalid("must be a text or a list of texts".to_owned())),
    };
    if let Some(long) = texts.iter().find(|text| text.len() > MAX_TEXT_BYTES) {
        return Err(invalid(format!(
            "holds a text of {} bytes; up to {MAX_TEXT_BYTES} are allowed",
            long.len()
        )));
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn input_is_a_text_or_a_list_of_texts() {
        assert_eq!(texts(&json!("a")).unwrap(), ["a"]);
        assert_eq!(texts(&json!(["a", "b"])).unwrap(), ["a", "b"]);
        for bad in [
            json!([]),
            json!([1, 2]),
            json!({}),
            json!(null),
            json!(vec!["a"; 257]),
            json!("a".repeat(MAX_TEXT_BYTES + 1)),
        ] {
            assert_eq!(texts(&bad).unwrap_err().code, ErrorCode::ValidationFailed);
        }
    }
}
