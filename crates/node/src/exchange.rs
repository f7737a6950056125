//! What goes in and out of handlers: JSON bodies, parameters, problem documents.

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures::StreamExt as _;
use kamil_protocol::{ErrorCode, MAX_BODY_BYTES, Problem};
use serde::{Serialize, de::DeserializeOwned};

/// What a body may be larger than allowed and is still read to its end, so that the caller gets to see the answer instead
/// of a broken connection.
const MAX_DISCARDED_BYTES: usize = 8 * MAX_BODY_BYTES;
const PROBLEM_MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");
const JSON_MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/json");

/// A problem as a response: `application/problem+json` with the code's status, and `Retry-After` where it applies.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct ApiError(#[from] pub Problem);

/// What a handler returns.
pub type ApiResult<T> = Result<T, ApiError>;

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        // A document that a peer sent is passed on as it is, its status only if it is an error's.
        let status = StatusCode::from_u16(problem.status)
            .ok()
            .filter(|status| status.is_client_error() || status.is_server_error())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if problem.code == ErrorCode::Internal {
            tracing::error!(detail = problem.detail, "a request failed inside Kamil");
        }
        let mut response = (status, serde_json::to_vec(&problem).unwrap_or_default()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_MEDIA_TYPE);
        if let Some(wait_ms) = problem.retry_after_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait_ms.div_ceil(1000).max(1)));
        }
        response
    }
}

/// A JSON body: extracted from requests of at most [`MAX_BODY_BYTES`], or sent as a response.
///
/// Refusals are `unsupported_media_type`, `body_too_large`, `malformed_body` (with line and column) and `unknown_field` (with the
/// field and those that exist).
#[derive(Clone, Copy, Debug, Default)]
pub struct Json<T>(pub T);

impl<T, S> FromRequest<S> for Json<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts) {
            let given = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let given = given.map_or_else(|| "has none".to_owned(), |given| format!("has `{given}`"));
            let detail = format!("The request body must have the content type application/json; it {given}.");
            return Err(Problem::new(ErrorCode::UnsupportedMediaType, detail).into());
        }
        let bytes = read_body(body).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| body_problem(&error).into())
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => ([(header::CONTENT_TYPE, JSON_MEDIA_TYPE)], bytes).into_response(),
            Err(error) => {
                let detail = format!("A reply cannot be written as JSON: {error}.");
                ApiError(Problem::new(ErrorCode::Internal, detail)).into_response()
            }
        }
    }
}

fn is_json(parts: &Parts) -> bool {
    let Some(value) = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

async fn read_body(body: Body) -> Result<Bytes, Problem> {
    let mut chunks = body.into_data_stream();
    let mut first = Bytes::new();
    let mut rest: Vec<u8> = Vec::new();
    let mut size = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            Problem::new(ErrorCode::MalformedBody, format!("The request body broke off: {error}."))
        })?;
        size += chunk.len();
        if size > MAX_DISCARDED_BYTES {
            break;
        }
        if size > MAX_BODY_BYTES {
            rest = Vec::new();
        } else if first.is_empty() {
            first = chunk;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&chunk);
        }
    }
    if size > MAX_BODY_BYTES {
        let detail = format!("The request body is larger than the {MAX_BODY_BYTES} bytes that are allowed.");
        return Err(Problem::new(ErrorCode::BodyTooLarge, detail)
            .next("Send less at once; put long texts into a file of the workspace."));
    }
    Ok(if rest.is_empty() { first } else { rest.into() })
}

fn body_problem(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    if error.is_data() && text.starts_with("unknown field") {
        return Problem::new(ErrorCode::UnknownField, format!("The request body has an {text}."));
    }
    let fault = if error.is_data() { "is not of the expected shape" } else { "is not JSON" };
    Problem::new(ErrorCode::MalformedBody, format!("The request body {fault}: {text}."))
}

/// Parameters from the path; a refusal is `invalid_parameter`.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => {
                let detail = format!(
                    "The path {} has a parameter that is not valid: {}.",
                    parts.uri.path(),
                    rejection.body_text()
                );
                Err(Problem::new(ErrorCode::InvalidParameter, detail).into())
            }
        }
    }
}

/// Parameters from the query; a refusal is `invalid_parameter` or `unknown_field`.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<T, S> FromRequestParts<S> for Query<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                let text = rejection.body_text();
                let code = if text.contains("unknown field") {
                    ErrorCode::UnknownField
                } else {
                    ErrorCode::InvalidParameter
                };
                Err(Problem::new(code, format!("The query is not valid: {text}.")).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_problem_has_its_status_media_type_and_wait() {
        let problem = Problem::new(ErrorCode::Busy, "full").retry_after_ms(1_200);
        let response = ApiError(problem.clone()).into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        assert_eq!(serde_json::from_slice::<Problem>(&body).unwrap(), problem);
    }

    #[tokio::test]
    async fn a_body_in_many_pieces_is_put_together_and_bounded() {
        let pieces = |count: usize| {
            Body::from_stream(futures::stream::iter(
                (0..count).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 1024]))),
            ))
        };
        assert_eq!(read_body(Body::empty()).await.unwrap().len(), 0);
        assert_eq!(read_body(pieces(1)).await.unwrap().len(), 1024);
        assert_eq!(read_body(pieces(2048)).await.unwrap().len(), MAX_BODY_BYTES);
        assert_eq!(read_body(pieces(2049)).await.unwrap_err().code, ErrorCode::BodyTooLarge);
    }
}
