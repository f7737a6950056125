//! Downloads from URLs, with a server that misbehaves on demand.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use futures::StreamExt;
use kamil_models::{ModelError, ModelsDir};
use sha2::{Digest, Sha256};

use crate::headers::tiny_model;

/// A model file large enough to be cut in the middle.
fn model() -> Vec<u8> {
    let mut bytes = tiny_model();
    bytes.resize(300_000, 7);
    bytes
}

#[derive(Clone)]
struct Server {
    content: Arc<Vec<u8>>,
    /// The first answers break off after this many bytes each.
    cuts: Arc<Mutex<Vec<usize>>>,
    ranges: Arc<Mutex<Vec<Option<String>>>>,
    requests: Arc<AtomicUsize>,
}

async fn serve(State(server): State<Server>, headers: HeaderMap) -> Response {
    server.requests.fetch_add(1, Ordering::SeqCst);
    let range = headers.get("range").map(|value| value.to_str().unwrap().to_owned());
    server.ranges.lock().unwrap().push(range.clone());
    let start: usize =
        range.map_or(0, |range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
    let total = server.content.len();
    if start >= total {
        return Response::builder()
            .status(StatusCode::RANGE_NOT_SATISFIABLE)
            .header("content-range", format!("bytes */{total}"))
            .body(Body::empty())
            .unwrap();
    }
    let rest = server.content[start..].to_vec();
    let length = rest.len();
    let cut = server.cuts.lock().unwrap().pop();
    let body = match cut {
        None => Body::from(rest),
        Some(after) => {
            let sent = futures::stream::iter([Ok(Bytes::from(rest[..after].to_vec()))]);
            // The server sends what it has when the body makes it wait, and would drop it at an error.
            let broken = futures::stream::once(async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("cut"))
            });
            Body::from_stream(sent.chain(broken))
        }
    };
    let status = if start > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    Response::builder()
        .status(status)
        .header("etag", "\"one\"")
        .header("content-length", length)
        .header("content-range", format!("bytes {start}-{}/{total}", total - 1))
        .body(body)
        .unwrap()
}

async fn start(content: Vec<u8>, cuts: &[usize]) -> (Server, String) {
    let server = Server {
        content: Arc::new(content),
        cuts: Arc::new(Mutex::new(cuts.to_vec())),
        ranges: Arc::default(),
        requests: Arc::default(),
    };
    let app = Router::new().route("/m/model.gguf", get(serve)).with_state(server.clone());
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let url = format!("http://{}/m/model.gguf", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (server, url)
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_was() {
    let content = model();
    let (server, url) = start(content.clone(), &[50_000, 100_000]).await;
    let folder = tempfile::tempdir().unwrap();
    let dir = ModelsDir::new(folder.path());
    let model = dir.pull(&url, |_| {}).await.unwrap();
    assert_eq!(fs::read(&model.path).unwrap(), content);
    assert_eq!(model.name, url);
    assert_eq!(model.sha256.as_deref(), Some(hex::encode(Sha256::digest(&content)).as_str()));
    let ranges = server.ranges.lock().unwrap().clone();
    assert_eq!(ranges.len(), 3);
    assert_eq!(ranges[0], None);
    assert!(
        ranges[1..].iter().all(|range| range.as_ref().is_some_and(|range| range != "bytes=0-")),
        "{ranges:?}"
    );

    assert_eq!(dir.pull(&url, |_| {}).await.unwrap(), model);
    assert_eq!(server.requests.load(Ordering::SeqCst), 3, "it was fetched again");
    assert_eq!(dir.list().unwrap(), [model]);
    dir.remove(&url).unwrap();
    assert!(dir.list().unwrap().is_empty());
}

#[tokio::test]
async fn an_interrupted_process_goes_on_later() {
    let content = model();
    let (server, url) = start(content.clone(), &[10, 10, 10]).await;
    let folder = tempfile::tempdir().unwrap();
    let dir = ModelsDir::new(folder.path());
    // Dropping the pull as soon as bytes have come is what an interruption looks like from here.
    let (arrived, mut has_arrived) = tokio::sync::mpsc::channel(1);
    {
        let pull = dir.pull(&url, |progress| {
            if progress.done_bytes >= 10 {
                let _ = arrived.try_send(());
            }
        });
        tokio::select! { _ = pull => {}, _ = has_arrived.recv() => {} }
    }
    server.cuts.lock().unwrap().clear();
    let model = dir.pull(&url, |_| {}).await.unwrap();
    assert_eq!(fs::read(&model.path).unwrap(), content);
}

#[tokio::test]
async fn a_wrong_hash_discards_the_file() {
    let (_, url) = start(model(), &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let dir = ModelsDir::new(folder.path());
    let pinned = format!("{url}#sha256={}", "00".repeat(32));
    let error = dir.pull(&pinned, |_| {}).await.unwrap_err();
    assert!(matches!(error, ModelError::WrongHash { .. }), "{error}");
    assert!(dir.list().unwrap().is_empty());
    let right = format!("{url}#sha256={}", hex::encode(Sha256::digest(model())));
    assert!(dir.pull(&right, |_| {}).await.is_ok());
}

#[tokio::test]
async fn what_is_not_a_model_is_never_installed() {
    let (_, url) = start(b"<html>not found, politely</html>".to_vec(), &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let dir = ModelsDir::new(folder.path());
    let error = dir.pull(&url, |_| {}).await.unwrap_err();
    assert!(matches!(error, ModelError::BrokenFile { .. }), "{error}");
    assert!(dir.list().unwrap().is_empty());
}

#[tokio::test]
async fn a_missing_file_and_a_missing_server_are_said() {
    let (_, url) = start(model(), &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let dir = ModelsDir::new(folder.path());
    let error = dir.pull(&url.replace("/m/", "/other/"), |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");
    let free = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap();
    let error = dir.pull(&format!("http://{free}/m/model.gguf"), |_| {}).await.unwrap_err();
    assert!(matches!(error, ModelError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_download_that_cannot_fit_is_refused_at_once() {
    let (_, url) = start(model(), &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let dir = ModelsDir::new(folder.path()).with_free_space_probe(Arc::new(|_| Ok(1000)));
    let error = dir.pull(&url, |_| {}).await.unwrap_err();
    assert!(
        matches!(error, ModelError::DiskFull { needed_bytes: 300_000, available_bytes: 1000, .. }),
        "{error}"
    );
}

/// A disk of 128 KiB, which only the process below sees.
const TINY_DISK: &str = "KAMIL_TEST_TINY_DISK";

#[test]
fn a_disk_that_fills_up_in_the_middle_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let script =
        "mount -t tmpfs -o size=128k none \"$1\" && exec \"$0\" --exact --ignored urls::on_the_tiny_disk";
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg(folder.path())
        .env(TINY_DISK, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "runs inside the test above, which makes the disk"]
async fn on_the_tiny_disk() {
    let (_, url) = start(model(), &[]).await;
    // The probe is wrong, as it is when another program fills the disk meanwhile.
    let dir =
        ModelsDir::new(std::env::var(TINY_DISK).unwrap()).with_free_space_probe(Arc::new(|_| Ok(u64::MAX)));
    let error = dir.pull(&url, |_| {}).await.unwrap_err();
    assert!(matches!(error, ModelError::DiskFull { .. }), "{error:?}");
    assert!(dir.list().unwrap().is_empty());
}
