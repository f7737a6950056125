//! Names of models as people write them.

use std::path::{Path, PathBuf};

use crate::catalogue::{CatalogueEntry, catalogue, find};
use crate::error::ModelError;

/// Names at least this similar are suggested.
const NEAREST_SIMILARITY: f64 = 0.4;

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelName {
    /// A model of the catalogue.
    Catalogue(&'static CatalogueEntry),
    /// A file on this machine.
    File(PathBuf),
    /// A file elsewhere.
    Url(RemoteFile),
}

/// A GGUF file behind a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// The URL, without the fragment.
    pub url: String,
    /// The SHA-256 the file must have, in hex, where the name gave one.
    pub sha256: Option<String>,
}

impl RemoteFile {
    /// The last part of the URL's path.
    pub fn file_name(&self) -> &str {
        let path = self.url.split(['?', '#']).next().unwrap_or(&self.url);
        path.rsplit('/').next().unwrap_or(path)
    }
}

impl ModelName {
    /// Understands a catalogue name or alias, a path ending in `.gguf`, `http(s)://…/x.gguf` with an optional
    /// `#sha256=HEX`, and `hf://owner/repository/file.gguf`.
    ///
    /// # Errors
    /// [`ModelError::UnknownName`] for anything else.
    pub fn parse(name: &str) -> Result<Self, ModelError> {
        let name = name.trim();
        if let Some(entry) = find(name) {
            return Ok(Self::Catalogue(entry));
        }
        let remote = if let Some(path) = name.strip_prefix("hf://") {
            let (path, fragment) = path.split_once('#').unwrap_or((path, ""));
            let mut parts = path.splitn(3, '/');
            match (parts.next(), parts.next(), parts.next()) {
                (Some(owner), Some(repository), Some(file)) if !file.is_empty() => {
                    let url = format!("https://huggingface.co/{owner}/{repository}/resolve/main/{file}");
                    Some((url, fragment.to_owned()))
                }
                _ => return Err(unknown(name)),
            }
        } else if name.starts_with("http://") || name.starts_with("https://") {
            let (url, fragment) = name.split_once('#').unwrap_or((name, ""));
            Some((url.to_owned(), fragment.to_owned()))
        } else {
            None
        };
        if let Some((url, fragment)) = remote {
            let sha256 = match fragment.strip_prefix("sha256=") {
                Some(hash) if is_sha256(hash) => Some(hash.to_ascii_lowercase()),
                None if fragment.is_empty() => None,
                _ => return Err(unknown(name)),
            };
            let file = RemoteFile { url, sha256 };
            return if is_gguf(Path::new(file.file_name())) {
                Ok(Self::Url(file))
            } else {
                Err(unknown(name))
            };
        }
        let path = Path::new(name);
        if is_gguf(path) {
            return Ok(Self::File(path.to_path_buf()));
        }
        Err(unknown(name))
    }
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
        && path.file_stem().is_some_and(|stem| !stem.is_empty())
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn unknown(name: &str) -> ModelError {
    let wanted = name.to_lowercase();
    let nearest = catalogue()
        .iter()
        .flat_map(|entry| std::iter::once(&entry.name).chain(entry.aliases).map(move |known| (entry, known)))
        .map(|(entry, known)| (strsim::normalized_damerau_levenshtein(&wanted, known), entry))
        .filter(|(similarity, _)| *similarity >= NEAREST_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, entry)| entry.name.to_owned());
    ModelError::UnknownName { name: name.to_owned(), nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str) -> ModelName {
        ModelName::parse(name).unwrap()
    }

    #[test]
    fn catalogue_names_and_aliases_mean_the_same() {
        for name in ["qwen2.5-coder:1.5b", "Qwen2.5-Coder", " qwen2.5-coder:1.5b "] {
            let ModelName::Catalogue(entry) = parsed(name) else { panic!("{name}") };
            assert_eq!(entry.name, "qwen2.5-coder:1.5b");
        }
    }

    #[test]
    fn paths_and_urls() {
        assert_eq!(parsed("./models/a.gguf"), ModelName::File("./models/a.gguf".into()));
        let hash = "AB".repeat(32);
        let ModelName::Url(file) = parsed(&format!("https://example.org/a/b.gguf?x=1#sha256={hash}")) else {
            panic!("not a URL")
        };
        assert_eq!(
            (file.file_name(), file.sha256.as_deref()),
            ("b.gguf", Some(hash.to_lowercase().as_str()))
        );
        let ModelName::Url(file) = parsed("hf://owner/repo/dir/file.gguf") else { panic!("not a URL") };
        assert_eq!(file.url, "https://huggingface.co/owner/repo/resolve/main/dir/file.gguf");
    }

    #[test]
    fn what_is_unknown_names_the_nearest_and_what_can_be_done() {
        let error = ModelName::parse("smolm2:135m").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("did you mean \"smollm2:135m\"?"), "{text}");
        assert!(text.contains("kamil models list") && text.contains("Ollama"), "{text}");
        for bad in ["", "mistral:latest", "https://example.org/page", "hf://owner/file.gguf", ".gguf"] {
            assert!(matches!(ModelName::parse(bad), Err(ModelError::UnknownName { .. })), "{bad}");
        }
        assert!(ModelName::parse("http://x/a.gguf#sha256=12").is_err());
    }
}
