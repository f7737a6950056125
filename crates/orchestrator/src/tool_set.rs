//! Tools that are registered together, as the journal keeps them: once, under their digest.

use std::{fmt, ops::Deref};

use kamil_protocol::tool::ToolDescriptor;
use sha2::{Digest as _, Sha256};

/// The tools of all living tool nodes at some moment, by name.
#[derive(Clone, PartialEq)]
pub(crate) struct ToolSet {
    tools: Vec<ToolDescriptor>,
    digest: String,
    body: String,
}

impl ToolSet {
    pub(crate) fn new(tools: Vec<ToolDescriptor>) -> Self {
        // The order of arguments in a schema is part of it, so this is not the canonical form.
        let body = serde_json::to_string(&tools).unwrap_or_default();
        Self { tools, digest: digest(&body), body }
    }

    /// Tools as they were kept; none if the text cannot be read as such.
    pub(crate) fn read(body: &str) -> Option<Self> {
        let tools = serde_json::from_str(body).ok()?;
        Some(Self { tools, digest: digest(body), body: body.to_owned() })
    }

    /// SHA-256 of [`ToolSet::body`], in hexadecimal digits.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// The tools as JSON.
    pub(crate) fn body(&self) -> &str {
        &self.body
    }
}

impl Default for ToolSet {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Deref for ToolSet {
    type Target = [ToolDescriptor];

    fn deref(&self) -> &Self::Target {
        &self.tools
    }
}

impl fmt::Debug for ToolSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolSet").field("tools", &self.tools.len()).field("digest", &self.digest).finish()
    }
}

/// SHA-256 of a text, in hexadecimal digits.
pub(crate) fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
