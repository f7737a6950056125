//! The folder: what it lists, resolves and removes.

use std::fs;
use std::sync::Arc;

use kamil_models::{ModelError, ModelsDir, catalogue};

use crate::headers::tiny_model;

#[test]
fn files_are_listed_resolved_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = ModelsDir::new(folder.path().join("models"));
    assert!(dir.list().unwrap().is_empty());
    assert!(matches!(dir.resolve("smollm2:135m"), Err(ModelError::NotInstalled { .. })));
    fs::create_dir(dir.root()).unwrap();
    let path = dir.root().join("smollm2-135m.gguf");
    fs::write(&path, tiny_model()).unwrap();
    fs::write(dir.root().join(".qwen2.5-coder-1.5b.gguf.partial"), b"half").unwrap();
    let listed = dir.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].name, "smollm2:135m");
    assert_eq!(dir.resolve("SmolLM2").unwrap(), listed[0]);
    dir.remove("smollm2:135m").unwrap();
    assert!(!path.exists());
    assert!(matches!(dir.remove("smollm2:135m"), Err(ModelError::NotInstalled { .. })));
    dir.remove("qwen2.5-coder:1.5b").unwrap();
    assert_eq!(fs::read_dir(dir.root()).unwrap().count(), 0);
}

#[test]
fn a_local_file_is_used_in_place_and_never_removed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = ModelsDir::new(folder.path().join("models"));
    let path = folder.path().join("own.gguf");
    fs::write(&path, tiny_model()).unwrap();
    let name = path.display().to_string();
    let model = dir.resolve(&name).unwrap();
    assert_eq!((model.name.as_str(), model.sha256), (name.as_str(), None));
    assert!(dir.remove(&name).is_err());
    assert!(path.exists());
    fs::write(&path, &tiny_model()[..150]).unwrap();
    let error = dir.resolve(&name).unwrap_err();
    assert!(matches!(error, ModelError::BrokenFile { .. }), "{error}");
    assert!(matches!(dir.resolve("/no/such/file.gguf"), Err(ModelError::Io { .. })));
}

#[tokio::test]
async fn too_little_space_is_said_before_anything_is_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let dir = ModelsDir::new(folder.path()).with_free_space_probe(Arc::new(|_| Ok(1_000_000)));
    let error = dir.pull("qwen2.5-coder:1.5b", |_| {}).await.unwrap_err();
    let ModelError::DiskFull { needed_bytes, available_bytes, .. } = error else { panic!("{error}") };
    assert!(needed_bytes > 1_117_320_768 && available_bytes == 1_000_000);
}

#[test]
fn the_catalogue_is_consistent() {
    for entry in catalogue() {
        assert!(!entry.sources.is_empty() && !entry.licence.is_empty() && entry.sha256.len() == 64);
        assert!(entry.context_tokens <= entry.trained_context_tokens);
        for source in entry.sources {
            if let kamil_models::Source::PythonPackages(parts) = source
                && entry.preparation == kamil_models::Preparation::None
            {
                assert_eq!(parts.iter().map(|part| part.bytes).sum::<u64>(), entry.bytes);
            }
        }
    }
}
