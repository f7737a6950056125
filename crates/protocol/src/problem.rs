//! Errors on the wire: RFC 9457 problem documents with a stable `code`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $title:literal;)*) => {
        /// What went wrong, stable across versions; documented one by one in `docs/errors.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $code)] $name,)*
        }

        impl ErrorCode {
            /// All codes, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as it stands on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The HTTP status that goes with it.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// A short title, the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// The body is not JSON, or not of the expected shape.
    MalformedBody = "malformed_body", 400, "The request body cannot be read";
    /// A field that the request does not have.
    UnknownField = "unknown_field", 400, "The request has an unknown field";
    /// A path or query parameter that cannot be parsed.
    InvalidParameter = "invalid_parameter", 400, "A parameter is not valid";
    /// No or a wrong cluster key.
    Unauthenticated = "unauthenticated", 401, "The cluster key is missing or wrong";
    /// The caller may not do this.
    Forbidden = "forbidden", 403, "This is not allowed";
    /// Only the orchestrator that this node registered with may call it.
    OrchestratorOnly = "orchestrator_only", 403, "Only the orchestrator may do this";
    /// The `Host` header names a host that Kamil does not serve.
    HostNotAllowed = "host_not_allowed", 403, "The Host header is not one of Kamil's";
    /// The `Origin` header names another site.
    OriginNotAllowed = "origin_not_allowed", 403, "Another web site may not call Kamil";
    /// The tool may run only after the person has agreed to these very arguments.
    ApprovalRequired = "approval_required", 403, "The person has to agree first";
    /// The person said no, or a rule did.
    Denied = "denied", 403, "The action was denied";
    /// There is no such endpoint or thing.
    NotFound = "not_found", 404, "There is no such thing";
    /// There is no task with this id.
    TaskUnknown = "task_unknown", 404, "There is no such task";
    /// The task has no step with this name.
    StepUnknown = "step_unknown", 404, "There is no such step";
    /// No node with this id is registered.
    NodeUnknown = "node_unknown", 404, "There is no such node";
    /// No memory has this id.
    MemoryUnknown = "memory_unknown", 404, "There is no such memory";
    /// No node offers this model.
    ModelUnknown = "model_unknown", 404, "There is no such model";
    /// No node offers this tool.
    ToolUnknown = "tool_unknown", 404, "There is no such tool";
    /// The endpoint exists, but not for this method.
    MethodNotAllowed = "method_not_allowed", 405, "The method is not allowed here";
    /// The thing is not in a state that allows this.
    Conflict = "conflict", 409, "The state does not allow this";
    /// The idempotency key was used before, with another request.
    IdempotencyMismatch = "idempotency_mismatch", 409, "The idempotency key belongs to another request";
    /// Whether the effect happened cannot be known; a person has to decide.
    OutcomeUnknown = "outcome_unknown", 409, "It is not known whether the effect happened";
    /// The body is larger than allowed.
    BodyTooLarge = "body_too_large", 413, "The request body is too large";
    /// The body is not declared as JSON.
    UnsupportedMediaType = "unsupported_media_type", 415, "The request body must be JSON";
    /// A value is out of its range, or fields contradict each other.
    ValidationFailed = "validation_failed", 422, "A value is not valid";
    /// Arguments do not match the tool's schema.
    InvalidArguments = "invalid_arguments", 422, "The arguments do not match the tool's schema";
    /// A graph with a cycle, an unknown tool or reference, or beyond its bounds.
    PlanInvalid = "plan_invalid", 422, "The plan is not valid";
    /// The prompt does not fit into the model's context.
    ContextExceeded = "context_exceeded", 422, "The request does not fit into the model's context";
    /// The task has used up what it may use.
    BudgetExceeded = "budget_exceeded", 422, "The task's budget is used up";
    /// The model file cannot be loaded.
    ModelUnusable = "model_unusable", 422, "The model cannot be loaded";
    /// The tool ran and failed.
    ToolFailed = "tool_failed", 422, "The tool failed";
    /// The node has no room for more work now.
    Busy = "busy", 429, "The node is full";
    /// The request was cancelled before it ended.
    Cancelled = "cancelled", 409, "The work was cancelled";
    /// Something inside Kamil broke; the log says more.
    Internal = "internal", 500, "Something inside Kamil failed";
    /// A node answered with something that cannot be understood.
    BadGateway = "bad_gateway", 502, "A node gave an answer that cannot be understood";
    /// No registered node can do this.
    NoNode = "no_node", 503, "No node can do this now";
    /// The node cannot be reached, or its connection broke.
    NodeUnreachable = "node_unreachable", 503, "The node cannot be reached";
    /// A layer of confinement cannot be set up, so nothing was run.
    LayerUnavailable = "layer_unavailable", 503, "A layer of the sandbox is not available";
    /// The time limit passed.
    DeadlineExceeded = "deadline_exceeded", 504, "The time limit passed";
    /// There is no room on the disk.
    StorageFull = "storage_full", 507, "The disk is full";
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ErrorCode {
    /// Whether the same request may succeed later or on another node.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Busy | Self::NodeUnreachable | Self::BadGateway | Self::NoNode | Self::DeadlineExceeded
        )
    }
}

/// A problem document (RFC 9457, `application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:kamil:error:` and the code.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The code's title.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: ErrorCode,
    /// What failed, on what, and why, in one or two sentences.
    pub detail: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    /// When to try again, for `busy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// More for programs, for example the digest that an approval must name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
}

impl Problem {
    /// A problem with this code and detail.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            type_uri: format!("urn:kamil:error:{code}"),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: detail.into(),
            next_step: None,
            retry_after_ms: None,
            data: None,
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn next(mut self, next_step: impl Into<String>) -> Self {
        self.next_step = Some(next_step.into());
        self
    }

    /// Adds when to try again.
    #[must_use]
    pub fn retry_after_ms(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// Adds data for programs.
    #[must_use]
    pub fn data(mut self, data: serde_json::Value) -> Self {
        self.data = Some(data);
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} [{}]", self.detail, self.code)?;
        match &self.next_step {
            Some(next) => write!(f, " {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}
