//! What every request passes before it reaches a handler: Host, Origin, cluster key; and what every reply gets.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Instant,
};

use axum::{
    body::Body,
    extract::{ConnectInfo, MatchedPath, Request, State, connect_info::Connected},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
    serve::IncomingStream,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use kamil_protocol::{ErrorCode, Problem};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{ApiError, ClusterKey, Metrics, STEP_HEADER, TASK_HEADER, listener::Connections};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// Checks requests, and sees to it that every one of them is answered.
#[derive(Clone)]
pub(crate) struct Door(Arc<Inner>);

struct Inner {
    key: Option<ClusterKey>,
    hosts: BTreeSet<String>,
    metrics: Arc<Metrics>,
    /// The node leaves: streams are cut.
    leaving: CancellationToken,
    /// The time to finish is over: requests are dropped.
    closing: CancellationToken,
}

/// The address of this machine that a caller reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReachedAt(Option<SocketAddr>);

impl Connected<IncomingStream<'_, Connections>> for ReachedAt {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        Self(stream.io().local_addr().ok())
    }
}

impl Door {
    pub(crate) fn new(
        key: Option<ClusterKey>,
        hosts: BTreeSet<String>,
        metrics: Arc<Metrics>,
        leaving: CancellationToken,
        closing: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner { key, hosts, metrics, leaving, closing }))
    }
}

/// The middleware around all routes.
pub(crate) async fn pass(State(door): State<Door>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let door = &door.0;
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let span = request_span(&request);
    let mut response = match door.check(&request) {
        Err(problem) => {
            tracing::debug!(parent: &span, code = %problem.code, "refused");
            refuse(problem)
        }
        Ok(()) => {
            let handled = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span);
            tokio::select! {
                biased;
                handled = handled => handled.unwrap_or_else(|panic| panicked(panic.as_ref())),
                () = door.closing.cancelled() => stopped(),
            }
        }
    };
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    door.count(&method, route.as_ref(), response.status(), begun);
    door.cut_when_leaving(response)
}

fn request_span(request: &Request) -> tracing::Span {
    let span = tracing::info_span!(
        "request",
        method = %request.method(),
        path = request.uri().path(),
        task = tracing::field::Empty,
        step = tracing::field::Empty
    );
    if !span.is_disabled() {
        for (header, field) in [(TASK_HEADER, "task"), (STEP_HEADER, "step")] {
            if let Some(value) = request.headers().get(header).and_then(|value| value.to_str().ok()) {
                span.record(field, value);
            }
        }
    }
    span
}

impl Inner {
    fn check(&self, request: &Request) -> Result<(), Problem> {
        let headers = request.headers();
        let reached_at =
            request.extensions().get::<ConnectInfo<ReachedAt>>().and_then(|ConnectInfo(at)| at.0);
        let host = self.check_host(headers, request.uri(), reached_at)?;
        check_origin(headers, &host)?;
        if request.uri().path() == "/health" {
            return Ok(());
        }
        self.check_key(headers)
    }

    /// The Host header tells which name the caller used. A web page of another site that makes its own name point here (DNS
    /// rebinding) shows that name.
    fn check_host(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        reached_at: Option<SocketAddr>,
    ) -> Result<Authority, Problem> {
        let given = match headers.get(header::HOST) {
            Some(value) => Authority::try_from(value.as_bytes()).ok(),
            None => uri.authority().cloned(),
        };
        let Some(authority) = given else {
            let detail = "The request has no Host header, or one that is not a host.";
            return Err(Problem::new(ErrorCode::HostNotAllowed, detail));
        };
        if self.serves(&authority, reached_at) {
            return Ok(authority);
        }
        let detail =
            format!("The Host header names `{}`, which is not a name of this node.", authority.host());
        Err(Problem::new(ErrorCode::HostNotAllowed, detail).next(
            "Use the address that Kamil printed, or add the name to the allowed hosts (--allowed-host NAME).",
        ))
    }

    fn serves(&self, authority: &Authority, reached_at: Option<SocketAddr>) -> bool {
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let address = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
            .ok()
            .map(|ip| ip.to_canonical());
        match address {
            Some(ip) if ip.is_loopback() => true,
            Some(ip) if reached_at.is_some_and(|at| at.ip().to_canonical() == ip) => true,
            _ => host == "localhost" || self.hosts.contains(&host),
        }
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(key) = &self.key else { return Ok(()) };
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let matches = shown.and_then(|shown| shown.split_once(' ')).is_some_and(|(scheme, credential)| {
            if scheme.eq_ignore_ascii_case("bearer") {
                return key.matches(credential.trim());
            }
            scheme.eq_ignore_ascii_case("basic")
                && basic_password(credential).is_some_and(|password| key.matches(&password))
        });
        if matches {
            return Ok(());
        }
        let what =
            if shown.is_none() { "The request shows no cluster key." } else { "The cluster key is wrong." };
        Err(Problem::new(ErrorCode::Unauthenticated, what)
            .next("Give the key of this cluster (--cluster-key-file FILE; in a browser: as password, with any user name)."))
    }

    fn count(&self, method: &Method, route: Option<&MatchedPath>, status: StatusCode, begun: Instant) {
        // Only known words become labels: anyone can send any path or method.
        let route = route.map_or("(none)", MatchedPath::as_str);
        let method = match *method {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            _ => "other",
        };
        let class = match status.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        let labels = [("method", method), ("route", route), ("status", class)];
        self.metrics.counter_with("kamil_http_requests_total", "Requests answered.", &labels).inc();
        let help = "Time until an answer begins, in milliseconds.";
        self.metrics
            .histogram_with("kamil_http_request_ms", help, &[("route", route)])
            .observe(begun.elapsed());
    }

    /// A stream of events may last for hours; it must not hold up a node that leaves. Cutting it, rather than ending it, tells
    /// the reader that there would have been more.
    fn cut_when_leaving(&self, response: Response) -> Response {
        let media_type = response.headers().get(header::CONTENT_TYPE);
        if !media_type.is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream")) {
            return response;
        }
        let leaving = self.leaving.clone();
        let cut = async move {
            let error = io::Error::new(io::ErrorKind::ConnectionAborted, "the node leaves");
            leaving.is_cancelled().then_some(Err(error))
        };
        response.map(|body| {
            let chunks = body.into_data_stream().map_err(io::Error::other);
            let chunks = chunks.take_until(self.leaving.clone().cancelled_owned());
            Body::from_stream(chunks.chain(cut.into_stream().filter_map(std::future::ready)))
        })
    }
}

/// A browser names the site whose page makes the call. Kamil's own pages are the only ones that may.
fn check_origin(headers: &HeaderMap, host: &Authority) -> Result<(), Problem> {
    let refuse = |site: &str| {
        let detail = format!("The call comes from a page of another site ({site}).");
        Err(Problem::new(ErrorCode::OriginNotAllowed, detail)
            .next("Open Kamil's own address in the browser."))
    };
    if let Some(site) = headers.get(SEC_FETCH_SITE)
        && !matches!(site.as_bytes(), b"same-origin" | b"none")
    {
        return refuse(&String::from_utf8_lossy(site.as_bytes()));
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let text = String::from_utf8_lossy(origin.as_bytes());
    let same = text.split_once("://").is_some_and(|(scheme, site)| {
        let default_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return false,
        };
        let port = |authority: &Authority| authority.port_u16().unwrap_or(default_port);
        site.parse::<Authority>().is_ok_and(|site| {
            site.host().eq_ignore_ascii_case(host.host())
                && port(&site) == port(host)
                && !site.as_str().contains('@')
        })
    });
    if same { Ok(()) } else { refuse(&text) }
}

fn basic_password(credential: &str) -> Option<String> {
    let text = String::from_utf8(BASE64_STANDARD.decode(credential.trim()).ok()?).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

fn refuse(problem: Problem) -> Response {
    let ask = problem.code == ErrorCode::Unauthenticated;
    let mut response = ApiError(problem).into_response();
    if ask {
        let headers = response.headers_mut();
        headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"Kamil\""));
        headers.append(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"Kamil\", charset=\"UTF-8\""),
        );
    }
    response
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Response {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("unknown"), "a handler panicked");
    let detail = "A handler panicked; the node goes on.";
    ApiError(Problem::new(ErrorCode::Internal, detail).next("The node's log says more.")).into_response()
}

fn stopped() -> Response {
    ApiError(Problem::new(
        ErrorCode::NodeUnreachable,
        "The node is shutting down and did not finish in time.",
    ))
    .into_response()
}

/// Answers where no route matches.
pub(crate) async fn not_found(uri: Uri) -> ApiError {
    let detail = format!("There is no endpoint {}.", uri.path());
    ApiError(Problem::new(ErrorCode::NotFound, detail).next("GET /openapi.json lists the endpoints."))
}

/// Answers where a route has no such method.
pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let detail = format!("{} does not take the method {method}.", uri.path());
    ApiError(
        Problem::new(ErrorCode::MethodNotAllowed, detail)
            .next("GET /openapi.json lists the endpoints and their methods."),
    )
}
