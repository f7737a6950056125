//! The model that embeds: found in the folder of models, run in this process.

use std::path::Path;

use kamil_inference::{Embedder, EmbedderOptions, InferenceError};
use kamil_models::{ModelError, ModelsDir};

/// A model that is loaded.
pub(crate) struct Loaded {
    name: String,
    embedder: Embedder,
}

/// Why a model is not there, in words for a person.
pub(crate) struct Missing(pub(crate) String);

impl Loaded {
    /// Loads the model if it is installed; nothing is fetched. Blocks for tens of milliseconds.
    pub(crate) fn load(models: &Path, name: &str) -> Result<Self, Missing> {
        let installed = ModelsDir::new(models).resolve(name).map_err(|error| match error {
            ModelError::NotInstalled { .. } => Missing(format!(
                "the embedding model `{name}` is not installed. `kamil models pull {name}` fetches it."
            )),
            error => Missing(format!("the embedding model `{name}` cannot be used: {error}")),
        })?;
        // Several threads would wait for each other after every layer, and while a language model holds the cores one of them
        // is always late: a query then takes seconds instead of 12 ms.
        let options = EmbedderOptions { threads: 1, ..EmbedderOptions::new(&installed.path) };
        let embedder = Embedder::load_with(&options)
            .map_err(|error| Missing(format!("the embedding model `{name}` cannot be loaded: {error}")))?;
        Ok(Self { name: installed.name, embedder })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A unit vector for each text.
    pub(crate) async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, InferenceError> {
        self.embedder.embed(texts).await
    }
}
