//! The model that embeds.

use std::path::PathBuf;

/// A model that is loaded.
pub(crate) struct Loaded {
    name: String,
}

/// Why a model is not there, in words for a person.
pub(crate) struct Missing(pub(crate) String);

impl Loaded {
    pub(crate) fn load(_models: PathBuf, name: &str) -> Result<Self, Missing> {
        Err(Missing(format!(
            "the embedding model `{name}` is not installed. `kamil models pull {name}` fetches it."
        )))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn embed(&self, _texts: Vec<String>) -> Result<Vec<Vec<f32>>, String> {
        Err(String::new())
    }
}
