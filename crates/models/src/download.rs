//! Fetching a model file from a URL, resumable.

use std::fs;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use reqwest::header::{CONTENT_RANGE, ETAG, IF_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode};
use tokio::fs::OpenOptions;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::error::ModelError;
use crate::pull::{Lock, Progress};
use crate::store::{ModelsDir, etag_path};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence in the middle of a download.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Attempts in a row that bring no new byte.
const FRUITLESS_ATTEMPTS: u32 = 3;
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Downloads `url` into `partial`, going on where an earlier attempt ended if the server still has the same file.
/// `pinned` tells that the content will be checked against a known hash, which makes going on safe without an `ETag`.
pub(crate) async fn fetch(
    dir: &ModelsDir,
    _lock: &Lock,
    url: &str,
    pinned: bool,
    partial: &Path,
    report: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(), ModelError> {
    let failed = |reason: String| ModelError::Unreachable { name: url.to_owned(), reasons: vec![reason] };
    // Fails only if the process has installed a provider already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .build()
        .map_err(|error| failed(describe(&error)))?;
    let mut fruitless = 0;
    let mut known_etag = fs::read_to_string(etag_path(partial)).ok();
    let mut same_run = false;
    loop {
        let mut have = fs::metadata(partial).map_or(0, |meta| meta.len());
        if have > 0 && !pinned && known_etag.is_none() && !same_run {
            fs::remove_file(partial).map_err(|source| dir.io_error("remove", partial, 0, source))?;
            have = 0;
        }
        let result = attempt(dir, &client, url, partial, have, &mut known_etag, report).await;
        same_run = true;
        let reason = match result {
            Ok(()) => {
                let _ = fs::remove_file(etag_path(partial));
                return Ok(());
            }
            Err(Broken::Final(error)) => return Err(error),
            Err(Broken::Cut(reason)) => reason,
        };
        let now = fs::metadata(partial).map_or(0, |meta| meta.len());
        fruitless = if now > have { 0 } else { fruitless + 1 };
        if fruitless >= FRUITLESS_ATTEMPTS {
            return Err(failed(reason));
        }
        tracing::warn!(url, reason, bytes = now, "the download was cut, going on");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

enum Broken {
    /// Trying again may help.
    Cut(String),
    /// It will not.
    Final(ModelError),
}

async fn attempt(
    dir: &ModelsDir,
    client: &Client,
    url: &str,
    partial: &Path,
    have: u64,
    known_etag: &mut Option<String>,
    report: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(), Broken> {
    let mut request = client.get(url);
    if have > 0 {
        request = request.header(RANGE, format!("bytes={have}-"));
        if let Some(etag) = known_etag.as_deref() {
            request = request.header(IF_RANGE, etag);
        }
    }
    let response = request.send().await.map_err(|error| Broken::Cut(describe(&error)))?;
    let unreachable = |reason: String| {
        Broken::Final(ModelError::Unreachable { name: url.to_owned(), reasons: vec![reason] })
    };
    let start = match response.status() {
        StatusCode::PARTIAL_CONTENT if range_start(&response) == Some(have) => have,
        StatusCode::OK => 0,
        // Nothing after what we have: it was complete, or the file is another one now.
        StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
            if complete_length(&response) == Some(have) {
                return Ok(());
            }
            let _ = fs::remove_file(partial);
            return Err(Broken::Cut("the server has another file now".into()));
        }
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(Broken::Cut(format!("the server answered {status}")));
        }
        status => return Err(unreachable(format!("the server answered {status}"))),
    };
    let etag = response.headers().get(ETAG).and_then(|value| value.to_str().ok());
    let strong = etag.filter(|etag| !etag.starts_with("W/")).map(str::to_owned);
    if let Some(etag) = &strong {
        let _ = fs::write(etag_path(partial), etag);
    }
    *known_etag = strong;
    let total = response.content_length().map(|length| length + start);
    if let Some(total) = total {
        dir.check_space(total - start).map_err(Broken::Final)?;
    }
    save(dir, response, partial, start, total, report).await
}

async fn save(
    dir: &ModelsDir,
    response: Response,
    partial: &Path,
    start: u64,
    total: Option<u64>,
    report: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(), Broken> {
    let mut done = start;
    let io = |done: u64| {
        move |source| {
            Broken::Final(dir.io_error("write", partial, total.unwrap_or(0).saturating_sub(done), source))
        }
    };
    let mut file =
        OpenOptions::new().create(true).truncate(false).write(true).open(partial).await.map_err(io(done))?;
    file.set_len(start).await.map_err(io(done))?;
    file.seek(std::io::SeekFrom::Start(start)).await.map_err(io(done))?;
    let mut body = response.bytes_stream();
    let cut = loop {
        match body.next().await {
            None => break None,
            Some(Err(error)) => break Some(describe(&error)),
            Some(Ok(bytes)) => {
                file.write_all(&bytes).await.map_err(io(done))?;
                done += bytes.len() as u64;
                report(Progress { done_bytes: done, total_bytes: total });
            }
        }
    };
    file.flush().await.map_err(io(done))?;
    file.sync_data().await.map_err(io(done))?;
    match cut {
        Some(reason) => Err(Broken::Cut(reason)),
        None if total.is_some_and(|total| done < total) => Err(Broken::Cut("the connection was cut".into())),
        None => Ok(()),
    }
}

/// The first byte of a `Content-Range: bytes 5-9/10` (RFC 9110, section 14.4).
fn range_start(response: &Response) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// The length in a `Content-Range: bytes */10`.
fn complete_length(response: &Response) -> Option<u64> {
    response.headers().get(CONTENT_RANGE)?.to_str().ok()?.rsplit('/').next()?.parse().ok()
}

/// reqwest's own text stops before the reason.
fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
