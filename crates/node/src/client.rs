//! The HTTP client with which nodes and the command line talk to nodes.

use std::{error::Error as _, fmt, sync::Arc, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use kamil_protocol::{ErrorCode, Problem};
use reqwest::{
    Response, Url,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{ClusterKey, NODE_TOKEN_HEADER, SseStream};

pub use reqwest::Method;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a call may take unless [`Client::with_timeout`] says otherwise.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Kamil's streams speak every 5 s at least.
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Largest reply that is read, in bytes.
const MAX_REPLY_BYTES: usize = 32 * 1024 * 1024;

/// Calls one node. Clones share its connections, which are kept open between calls.
///
/// Every call is bounded: 2 s to connect, 30 s in all (streams: 20 s of silence), 32 MiB of reply. What goes wrong is always a
/// [`Problem`]: the peer's own problem documents as they are; `node_unreachable` if no connection can be made or it
/// breaks; `deadline_exceeded` if the answer takes too long; `bad_gateway` for an answer that Kamil would not give.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    credentials: Arc<HeaderMap>,
    timeout: Duration,
    idle: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the node at this address: `http://host:port` or `host:port`, with the cluster's key if it has one.
    ///
    /// # Errors
    /// `invalid_parameter` if this is not an address.
    pub fn new(base_url: &str, key: Option<&ClusterKey>) -> Result<Self, Problem> {
        let base = parse_base(base_url)?;
        let mut credentials = HeaderMap::new();
        if let Some(key) = key {
            credentials.insert(header::AUTHORIZATION, secret_header(&format!("Bearer {}", key.expose()))?);
        }
        let http = connections(&base)?;
        Ok(Self {
            http,
            base,
            credentials: Arc::new(credentials),
            timeout: CALL_TIMEOUT,
            idle: STREAM_IDLE_TIMEOUT,
        })
    }

    /// The same, showing the secret that a node registered with.
    ///
    /// # Errors
    /// `invalid_parameter` if the secret cannot stand in a header.
    pub fn with_node_token(&self, token: &str) -> Result<Self, Problem> {
        let mut credentials = HeaderMap::clone(&self.credentials);
        credentials.insert(HeaderName::from_static(NODE_TOKEN_HEADER), secret_header(token)?);
        Ok(Self { credentials: Arc::new(credentials), ..self.clone() })
    }

    /// The same, with another credential for servers that are not Kamil's: `Authorization: Bearer`.
    ///
    /// # Errors
    /// `invalid_parameter` if it cannot stand in a header.
    pub fn with_bearer(&self, secret: &str) -> Result<Self, Problem> {
        let mut credentials = HeaderMap::clone(&self.credentials);
        credentials.insert(header::AUTHORIZATION, secret_header(&format!("Bearer {secret}"))?);
        Ok(Self { credentials: Arc::new(credentials), ..self.clone() })
    }

    /// The same, with another limit on the time of a whole call. It does not bear on streams.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The same, with another limit on the silence within a stream, for servers that keep no stream alive.
    #[must_use]
    pub fn with_idle_timeout(&self, idle: Duration) -> Self {
        Self { idle, ..self.clone() }
    }

    /// The address without the slash at its end.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// `GET`; the path may hold a query.
    ///
    /// # Errors
    /// See [`Client`].
    pub async fn get<R: DeserializeOwned>(&self, path: &str) -> Result<R, Problem> {
        self.call(Method::GET, path, None::<&()>, &[]).await
    }

    /// `GET` with a query, each field as a parameter.
    ///
    /// # Errors
    /// See [`Client`].
    pub async fn get_with<Q: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        path: &str,
        query: &Q,
    ) -> Result<R, Problem> {
        let request = self.request(Method::GET, path, None::<&()>, &[])?.query(query).timeout(self.timeout);
        self.finish(Method::GET, path, request).await
    }

    /// `GET` for text that is not JSON, such as metrics.
    ///
    /// # Errors
    /// See [`Client`].
    pub async fn get_text(&self, path: &str) -> Result<String, Problem> {
        let request = self.request(Method::GET, path, None::<&()>, &[])?.timeout(self.timeout);
        let response = request.send().await.map_err(|error| self.broken(&Method::GET, path, &error))?;
        let bytes = self.checked_body(&Method::GET, path, response).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// `POST` of a JSON body.
    ///
    /// # Errors
    /// See [`Client`].
    pub async fn post<B: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<R, Problem> {
        self.call(Method::POST, path, Some(body), &[]).await
    }

    /// `POST` of a JSON body with more headers, e.g. an idempotency key.
    ///
    /// # Errors
    /// See [`Client`].
    pub async fn post_with_headers<B: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        headers: &[(&str, &str)],
    ) -> Result<R, Problem> {
        self.call(Method::POST, path, Some(body), headers).await
    }

    /// `PUT` of a JSON body.
    ///
    /// # Errors
    /// See [`Client`].
    pub async fn put<B: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<R, Problem> {
        self.call(Method::PUT, path, Some(body), &[]).await
    }

    /// `PATCH` with a JSON body.
    ///
    /// # Errors
    /// See [`Client`].
    pub async fn patch<B: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<R, Problem> {
        self.call(Method::PATCH, path, Some(body), &[]).await
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// See [`Client`].
    pub async fn delete<R: DeserializeOwned>(&self, path: &str) -> Result<R, Problem> {
        self.call(Method::DELETE, path, None::<&()>, &[]).await
    }

    /// Any method. A reply without a body is read as JSON's `null`, hence as `()`.
    ///
    /// # Errors
    /// See [`Client`].
    pub async fn call<B: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        headers: &[(&str, &str)],
    ) -> Result<R, Problem> {
        let request = self.request(method.clone(), path, body, headers)?.timeout(self.timeout);
        self.finish(method, path, request).await
    }

    /// A call that is answered by a stream of events. The stream ends when the peer ends it; a broken connection is an
    /// item `node_unreachable`.
    ///
    /// # Errors
    /// See [`Client`]; `bad_gateway` also if the answer is no stream.
    pub async fn stream<B: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        headers: &[(&str, &str)],
    ) -> Result<SseStream, Problem> {
        let request = self.request(method.clone(), path, body, headers)?;
        let request = request.header(header::ACCEPT, HeaderValue::from_static("text/event-stream")).send();
        let response = tokio::time::timeout(self.timeout.max(self.idle), request)
            .await
            .map_err(|_| self.late(&method, path))?
            .map_err(|error| self.broken(&method, path, &error))?;
        if !response.status().is_success() {
            return Err(self.refusal(&method, path, response).await);
        }
        if !media_type(&response).starts_with("text/event-stream") {
            let detail = format!(
                "{} answered with `{}` instead of a stream of events.",
                self.named(&method, path),
                media_type(&response)
            );
            return Err(Problem::new(ErrorCode::BadGateway, detail));
        }
        let who = self.named(&method, path);
        let client = self.clone();
        let owned_path = path.to_owned();
        let chunks =
            response.bytes_stream().map_err(move |error| client.broken(&method, &owned_path, &error));
        Ok(SseStream::new(chunks, self.idle, who))
    }

    fn request<B: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        headers: &[(&str, &str)],
    ) -> Result<reqwest::RequestBuilder, Problem> {
        let url = format!("{}/{}", self.base_url(), path.trim_start_matches('/'));
        let mut request = self.http.request(method, url).headers(HeaderMap::clone(&self.credentials));
        for (name, value) in headers {
            let parsed = HeaderName::try_from(*name).ok().zip(HeaderValue::try_from(*value).ok());
            let Some((name, value)) = parsed else {
                let detail = format!("`{name}` with the value `{value}` cannot stand in a header.");
                return Err(Problem::new(ErrorCode::InvalidParameter, detail));
            };
            request = request.header(name, value);
        }
        Ok(match body {
            Some(body) => request.json(body),
            None => request,
        })
    }

    async fn finish<R: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<R, Problem> {
        let response = request.send().await.map_err(|error| self.broken(&method, path, &error))?;
        let bytes = self.checked_body(&method, path, response).await?;
        let bytes = if bytes.is_empty() { b"null" } else { bytes.as_slice() };
        serde_json::from_slice(bytes).map_err(|error| {
            let detail = format!(
                "{} answered with something that cannot be understood: {error}.",
                self.named(&method, path)
            );
            Problem::new(ErrorCode::BadGateway, detail)
        })
    }

    async fn checked_body(
        &self,
        method: &Method,
        path: &str,
        response: Response,
    ) -> Result<Vec<u8>, Problem> {
        if response.status().is_success() {
            return self.body(method, path, response).await;
        }
        Err(self.refusal(method, path, response).await)
    }

    async fn body(&self, method: &Method, path: &str, response: Response) -> Result<Vec<u8>, Problem> {
        let mut chunks = response.bytes_stream();
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| self.broken(method, path, &error))?;
            if bytes.len() + chunk.len() > MAX_REPLY_BYTES {
                let detail =
                    format!("{} answered with more than {MAX_REPLY_BYTES} bytes.", self.named(method, path));
                return Err(Problem::new(ErrorCode::BadGateway, detail));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    async fn refusal(&self, method: &Method, path: &str, response: Response) -> Problem {
        let status = response.status();
        let media_type = media_type(&response);
        let retry_after_s = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let read = tokio::time::timeout(self.timeout, self.body(method, path, response)).await;
        let bytes = read.map_or_else(|_| Vec::new(), Result::unwrap_or_default);
        if let Ok(problem) = serde_json::from_slice::<Problem>(&bytes) {
            return problem;
        }
        let excerpt: String =
            String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).take(200).collect();
        let what =
            if media_type.is_empty() { "no content type".to_owned() } else { format!("`{media_type}`") };
        let detail = format!(
            "{} answered {status} with {what}, which is not a Kamil node's answer: {excerpt:?}.",
            self.named(method, path)
        );
        let problem = Problem::new(ErrorCode::BadGateway, detail)
            .next("Check the address and the port.")
            .data(serde_json::json!({ "status": status.as_u16(), "body": String::from_utf8_lossy(bytes.get(..4096).unwrap_or(&bytes)) }));
        match retry_after_s {
            Some(seconds) => problem.retry_after_ms(seconds.saturating_mul(1_000)),
            None => problem,
        }
    }

    fn broken(&self, method: &Method, path: &str, error: &reqwest::Error) -> Problem {
        if error.is_timeout() && !error.is_connect() {
            return self.late(method, path);
        }
        let mut reason = String::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            reason = error.to_string();
            cause = error.source();
        }
        if reason.is_empty() {
            reason = error.to_string();
        }
        let detail = format!("{} failed: {reason}.", self.named(method, path));
        if error.is_builder() {
            return Problem::new(ErrorCode::InvalidParameter, detail);
        }
        Problem::new(ErrorCode::NodeUnreachable, detail)
            .next("Check that the node runs, and its address and port.")
    }

    fn late(&self, method: &Method, path: &str) -> Problem {
        let detail =
            format!("{} was not answered within {} s.", self.named(method, path), self.timeout.as_secs_f32());
        Problem::new(ErrorCode::DeadlineExceeded, detail)
    }

    fn named(&self, method: &Method, path: &str) -> String {
        let path = path.split('?').next().unwrap_or_default();
        format!("{method} {}/{}", self.base_url(), path.trim_start_matches('/'))
    }
}

fn media_type(response: &Response) -> String {
    let value = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn secret_header(value: &str) -> Result<HeaderValue, Problem> {
    let mut value = HeaderValue::try_from(value).map_err(|_| {
        Problem::new(ErrorCode::InvalidParameter, "A secret has characters that cannot stand in a header.")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// An address as people write it: a scheme may be left out.
pub(crate) fn parse_base(value: &str) -> Result<Url, Problem> {
    let problem = |reason: &str| {
        let detail = format!("`{value}` is not the address of a node: {reason}.");
        Problem::new(ErrorCode::InvalidParameter, detail).next("Give host:port or http://host:port.")
    };
    let trimmed = value.trim();
    let full = if trimmed.contains("://") { trimmed.to_owned() } else { format!("http://{trimmed}") };
    let url = Url::parse(&full).map_err(|error| problem(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(problem("only http and https are spoken"));
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(problem("it must not hold more than scheme, host, port and path"));
    }
    Ok(url)
}

fn connections(base: &Url) -> Result<reqwest::Client, Problem> {
    // Fails only if a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("kamil/", env!("CARGO_PKG_VERSION")));
    // Plain HTTP needs no certificates, and a machine without any is no reason to fail.
    let builder = if base.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
    builder.build().map_err(|error| {
        Problem::new(ErrorCode::Internal, format!("The HTTP client cannot be made: {error:?}."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (given, base) in [
            ("localhost:8000", "http://localhost:8000"),
            (" 127.0.0.1:8000/ ", "http://127.0.0.1:8000"),
            ("https://hub.home", "https://hub.home"),
            ("http://[::1]:9/v1/", "http://[::1]:9/v1"),
        ] {
            assert_eq!(Client::new(given, None).unwrap().base_url(), base);
        }
        for bad in
            ["", "http://", "ftp://x", "a b", "localhost:99999", "http://u:p@h", "http://h?q", "http://h#f"]
        {
            let problem = Client::new(bad, None).unwrap_err();
            assert_eq!(problem.code, ErrorCode::InvalidParameter, "{bad}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let key = ClusterKey::generate().unwrap();
        let client = Client::new("localhost:1", Some(&key)).unwrap().with_node_token("hush").unwrap();
        let shown = format!("{client:?} {:?}", client.credentials);
        assert!(!shown.contains(key.expose()) && !shown.contains("hush"), "{shown}");
    }
}
