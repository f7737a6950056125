//! Labels: where a value came from, how far it may be believed, and which part of a call that concerns.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{MemoryId, StepId};

/// Most spans that a request for approval lists.
pub const MAX_SPANS: usize = 16;
/// Most origins that a span lists.
pub const MAX_ORIGINS: usize = 8;
/// Longest excerpt of a span, in Unicode scalar values.
pub const MAX_EXCERPT_CHARS: usize = 400;

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The person typed it.
    Person,
    /// Memory recalled it.
    Memory,
    /// A model wrote it.
    Model,
    /// A tool returned it.
    Tool,
    /// It was read from a file.
    File,
    /// It was fetched from the network.
    Web,
}

/// How far a value may be believed; joins take the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// From the person, or computed by Kamil from trusted values alone.
    Trusted,
    /// Anything that others could have written.
    Untrusted,
}

/// Labels on a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// Where it came from: everything that went into it, sorted, without repeats.
    pub sources: Vec<Source>,
    /// How far it may be believed.
    pub trust: Trust,
}

impl Labels {
    /// Whether the value may steer what changes something. What a file or the network went into never may, whatever is claimed of it.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.trust == Trust::Trusted
            && !self.sources.iter().any(|source| matches!(source, Source::File | Source::Web))
    }
}

/// A part of a call's arguments that others may have written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArgumentSpan {
    /// JSON pointer (RFC 6901) into the arguments.
    pub at: String,
    /// Where the part begins in the argument, in Unicode scalar values; of an argument that is no text: of its JSON.
    pub start: u64,
    /// Where it ends: the first that does not belong to it.
    pub end: u64,
    /// The part itself, at most 400 Unicode scalar values of it.
    pub excerpt: String,
    /// Labels on it.
    pub labels: Labels,
    /// Where it came in, at most 8.
    pub from: Vec<SpanOrigin>,
}

/// Where untrusted content came into a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpanOrigin {
    /// The step that brought it in; absent for what the caller gave as the earlier conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepId>,
    /// What kind of place it came from.
    pub source: Source,
    /// The tool that returned it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The file or address that the tool was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The memory that held it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryId>,
}
