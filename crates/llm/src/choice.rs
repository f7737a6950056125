//! Which model the node runs, and where.

use std::{fs, path::PathBuf, time::Duration};

use kamil_models::{CatalogueEntry, ModelError, ModelKind, ModelName, ModelsDir, catalogue, find, fit};
use kamil_node::Client;
use kamil_protocol::node::ModelOffer;
use serde::Deserialize;

use crate::{engine::openai::list_models, error::StartError, node::LlmOptions};

/// Used where neither the person nor the catalogue says how long a context is wanted.
const DEFAULT_CONTEXT_TOKENS: u32 = 8_192;
/// Ollama's own default; it cuts longer prompts without a word, so no more is promised.
const OLLAMA_CONTEXT_TOKENS: u32 = 4_096;
/// A local Ollama that runs answers at once.
const OLLAMA_TIMEOUT: Duration = Duration::from_secs(2);
const MIB: u64 = 1 << 20;

/// A model, as it is offered before it is loaded.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) offer: ModelOffer,
    pub(crate) place: Place,
}

/// Where the model runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this process, from this file.
    Here(PathBuf),
    /// On an OpenAI-compatible server at this address.
    Server(String),
}

/// Decides: a server that was named; else the model that was named, in the catalogue, as a file, or at a local Ollama; else the
/// largest that is installed and fits.
pub(crate) async fn choose(
    models: &ModelsDir,
    options: &LlmOptions,
    free_bytes: u64,
) -> Result<Choice, StartError> {
    if let Some(url) = &options.engine_url {
        return server(url, options).await;
    }
    match &options.model {
        Some(name) => named(models, name, options).await,
        None => largest_that_fits(models, options, free_bytes),
    }
}

async fn server(url: &str, options: &LlmOptions) -> Result<Choice, StartError> {
    let model = match &options.model {
        Some(model) => model.clone(),
        None => {
            let listed = list_models(url, options.engine_key.as_deref())
                .await
                .map_err(|source| StartError::Engine { source })?;
            listed.into_iter().next().ok_or_else(|| {
                StartError::Option(format!(
                    "The model server {url} has no models; load one there, or name one"
                ))
            })?
        }
    };
    Ok(Choice {
        offer: offer(options, model, "openai", 0, DEFAULT_CONTEXT_TOKENS, &[]),
        place: Place::Server(url.to_owned()),
    })
}

async fn named(models: &ModelsDir, name: &str, options: &LlmOptions) -> Result<Choice, StartError> {
    match ModelName::parse(name) {
        Ok(ModelName::Catalogue(entry)) if entry.kind == ModelKind::Embed => {
            let reason = format!(
                "`{}` turns texts into vectors and cannot answer; name a model that writes",
                entry.name
            );
            Err(StartError::Option(reason))
        }
        Ok(ModelName::Catalogue(entry)) => match installed(models, entry) {
            Some(path) => Ok(of_catalogue(entry, path, options)),
            None => {
                Err(StartError::Model { source: ModelError::NotInstalled { name: entry.name.to_owned() } })
            }
        },
        Ok(ModelName::File(path)) => of_file(path, options),
        Ok(remote @ ModelName::Url(_)) => {
            let path = models.path_of(&remote);
            if path.is_file() {
                return of_file(path, options);
            }
            Err(StartError::Model { source: ModelError::NotInstalled { name: name.to_owned() } })
        }
        Err(ModelError::UnknownName { name, nearest }) => at_ollama(name, nearest, options).await,
        Err(source) => Err(StartError::Model { source }),
    }
}

fn largest_that_fits(
    models: &ModelsDir,
    options: &LlmOptions,
    free_bytes: u64,
) -> Result<Choice, StartError> {
    let report = fit(free_bytes);
    let free_mib = free_bytes / MIB;
    let fitting = report.candidates.iter().filter(|candidate| candidate.fits);
    let found = fitting
        .filter_map(|candidate| find(candidate.name))
        .find_map(|entry| Some((entry, installed(models, entry)?)));
    match (found, report.chosen) {
        (Some((entry, path)), _) => Ok(of_catalogue(entry, path, options)),
        (None, Some(suggestion)) => {
            Err(StartError::NothingInstalled { suggestion: suggestion.to_owned(), free_mib })
        }
        (None, None) => {
            let smallest =
                report.candidates.iter().map(|candidate| candidate.needed_bytes).min().unwrap_or_default();
            Err(StartError::NothingFits { free_mib, needed_mib: smallest.div_ceil(MIB) })
        }
    }
}

/// The model that turns texts into vectors, if one is installed.
pub(crate) fn installed_embedder(models: &ModelsDir) -> Option<(&'static CatalogueEntry, PathBuf)> {
    let mut embedders = catalogue().iter().filter(|entry| entry.kind == ModelKind::Embed);
    embedders.find_map(|entry| Some((entry, installed(models, entry)?)))
}

/// Downloads appear under their name only when they are complete.
fn installed(models: &ModelsDir, entry: &'static CatalogueEntry) -> Option<PathBuf> {
    let path = models.path_of(&ModelName::Catalogue(entry));
    path.is_file().then_some(path)
}

fn of_catalogue(entry: &CatalogueEntry, path: PathBuf, options: &LlmOptions) -> Choice {
    let offer = offer(
        options,
        entry.name.to_owned(),
        "llama.cpp",
        entry.bytes,
        entry.context_tokens,
        entry.specializations,
    );
    Choice { offer, place: Place::Here(path) }
}

fn of_file(path: PathBuf, options: &LlmOptions) -> Result<Choice, StartError> {
    let size = fs::File::open(&path).and_then(|file| file.metadata()).map(|metadata| metadata.len());
    let bytes = size.map_err(|source| StartError::File { path: path.clone(), source })?;
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Choice {
        offer: offer(options, name, "llama.cpp", bytes, DEFAULT_CONTEXT_TOKENS, &[]),
        place: Place::Here(path),
    })
}

#[derive(Deserialize)]
struct OllamaTags {
    models: Vec<OllamaModel>,
}

#[derive(Deserialize)]
struct OllamaModel {
    name: String,
    #[serde(default)]
    size: u64,
}

/// Looks for a name that the catalogue does not have at a local Ollama.
async fn at_ollama(
    name: String,
    nearest: Option<String>,
    options: &LlmOptions,
) -> Result<Choice, StartError> {
    let url = options.ollama_url.trim_end_matches('/');
    let listed = match Client::new(url, None) {
        Ok(client) => client.with_timeout(OLLAMA_TIMEOUT).get::<OllamaTags>("/api/tags").await,
        Err(problem) => Err(problem),
    };
    let ollama = match listed {
        Ok(tags) => {
            let latest = format!("{name}:latest");
            let is_it = |model: &&OllamaModel| model.name == name || model.name == latest;
            if let Some(model) = tags.models.iter().find(is_it) {
                let offer =
                    offer(options, model.name.clone(), "openai", model.size, OLLAMA_CONTEXT_TOKENS, &[]);
                return Ok(Choice { offer, place: Place::Server(format!("{url}/v1")) });
            }
            let has: Vec<&str> = tags.models.iter().take(8).map(|model| model.name.as_str()).collect();
            let has = if has.is_empty() { "nothing".to_owned() } else { has.join(", ") };
            format!("the Ollama at {url} does not have it (it has {has})")
        }
        Err(problem) => {
            tracing::debug!(%problem, "no Ollama");
            format!("no Ollama answers at {url}")
        }
    };
    Err(StartError::UnknownModel { name, nearest, ollama })
}

fn offer(
    options: &LlmOptions,
    name: String,
    engine: &str,
    bytes: u64,
    context_tokens: u32,
    known_for: &[&str],
) -> ModelOffer {
    let specializations = match (options.specializations.is_empty(), known_for) {
        (false, _) => options.specializations.clone(),
        (true, []) => vec!["general".to_owned()],
        (true, known) => known.iter().map(|&known| known.to_owned()).collect(),
    };
    ModelOffer {
        name,
        engine: engine.to_owned(),
        resident: false,
        bytes,
        context_tokens: options.context_tokens.unwrap_or(context_tokens),
        specializations,
        prefill_tokens_per_s: None,
        decode_tokens_per_s: None,
        generates: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(model: Option<&str>) -> LlmOptions {
        // Port 9 (discard) on loopback: nobody is there.
        LlmOptions {
            model: model.map(str::to_owned),
            ollama_url: "http://127.0.0.1:9".to_owned(),
            ..LlmOptions::default()
        }
    }

    #[tokio::test]
    async fn without_a_name_the_largest_installed_one_that_fits_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, models) = (folder.path(), &ModelsDir::new(folder.path()));
        let none = choose(models, &options(None), 64 << 30).await.unwrap_err().to_string();
        assert!(none.contains("kamil models pull qwen2.5-coder:1.5b"), "{none}");
        let tiny = choose(models, &options(None), 1 << 20).await.unwrap_err().to_string();
        assert!(tiny.contains("1 MiB"), "{tiny}");

        let small = find("smollm2:135m").unwrap();
        fs::write(dir.join(small.file_name()), "x").unwrap();
        let choice = choose(models, &options(None), 64 << 30).await.unwrap();
        assert_eq!(choice.offer.name, "smollm2:135m");
        let large = find("qwen2.5-coder:1.5b").unwrap();
        fs::write(dir.join(large.file_name()), "x").unwrap();
        let choice = choose(models, &options(None), 64 << 30).await.unwrap();
        assert_eq!(choice.offer.name, "qwen2.5-coder:1.5b");
        assert_eq!(choice.place, Place::Here(dir.join(large.file_name())));
        assert!(choice.offer.specializations.iter().any(|word| word == "coding"));
        let needed = fit(0).candidates[0].needed_bytes;
        let choice = choose(models, &options(None), needed - 1).await.unwrap();
        assert_eq!(choice.offer.name, "smollm2:135m");
    }

    #[tokio::test]
    async fn names_paths_and_what_cannot_be_had() {
        let folder = tempfile::tempdir().unwrap();
        let choose_named =
            async |name: &str| choose(&ModelsDir::new(folder.path()), &options(Some(name)), 64 << 30).await;
        let error = choose_named("smollm2").await.unwrap_err().to_string();
        assert!(error.contains("kamil models pull smollm2:135m"), "{error}");
        let error = choose_named("smolm2:135m").await.unwrap_err().to_string();
        for part in [
            "`smolm2:135m`",
            "nearest: `smollm2:135m`",
            "no Ollama answers at http://127.0.0.1:9",
            "kamil models list",
            ".gguf",
            "--engine-url",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = choose_named("/nowhere/x.gguf").await.unwrap_err().to_string();
        assert!(error.contains("/nowhere/x.gguf"), "{error}");
        let error = choose_named("all-minilm:l6-v2").await.unwrap_err().to_string();
        assert!(error.contains("vectors"), "{error}");

        let file = folder.path().join("my-own.gguf");
        fs::write(&file, "GGUF").unwrap();
        let choice = choose_named(file.to_str().unwrap()).await.unwrap();
        assert_eq!((choice.offer.name.as_str(), choice.offer.bytes), ("my-own", 4));
        assert_eq!(choice.offer.specializations, ["general"]);
    }
}
