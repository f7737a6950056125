//! Who decides whether a tool may run: a rule of the person, else the tool's side-effect class.

use std::collections::BTreeMap;

use kamil_protocol::{
    ErrorCode, Problem, digest,
    task::{ApprovalRequest, Labels},
    tool::SideEffect,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::tool::Tool;

/// What is done when a tool is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// It runs.
    Allow,
    /// The person is asked, each time, and sees the exact arguments.
    Ask,
    /// It does not run.
    Deny,
}

impl Access {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

/// Exceptions from the default, by tool (`file_ops.delete`) or family (`code_tools`); the tool's rule comes first.
/// Default: `pure`, `read` and `write` (which reaches no further than the workspace) are allowed, `external` is asked.
pub type Rules = BTreeMap<String, Access>;

/// What applies to the tool, and which rule says so.
fn access(rules: &Rules, tool: &Tool) -> (Access, String) {
    for name in [tool.name(), tool.family()] {
        if let Some(access) = rules.get(name) {
            return (*access, format!("rule {name} = {}", access.as_str()));
        }
    }
    match tool.descriptor.side_effect {
        SideEffect::Pure => (Access::Allow, "default: pure tools are allowed".to_owned()),
        SideEffect::Read => (Access::Allow, "default: reading is allowed".to_owned()),
        SideEffect::Write => (Access::Allow, "default: writing in the workspace is allowed".to_owned()),
        SideEffect::External => {
            (Access::Ask, "default: what reaches beyond the workspace is asked".to_owned())
        }
    }
}

/// What applies to a call whose arguments have these labels: no rule lets what others may have written steer what changes something
/// without the person's yes.
fn access_of_call(rules: &Rules, tool: &Tool, labels: &Labels) -> (Access, String) {
    let (access, policy) = access(rules, tool);
    if access == Access::Deny || labels.is_trusted() || tool.descriptor.side_effect < SideEffect::Write {
        return (access, policy);
    }
    (Access::Ask, "others may have written what is in the arguments".to_owned())
}

/// Whether the call may run. The answer names the rule.
///
/// # Errors
/// `denied`; or `approval_required`, whose `data` is the [`ApprovalRequest`], unless `approval` is the digest of
/// exactly this call.
pub(crate) fn decide(
    rules: &Rules,
    tool: &Tool,
    arguments: &Value,
    labels: &Labels,
    approval: Option<&str>,
) -> Result<String, Problem> {
    let (access, policy) = access_of_call(rules, tool, labels);
    match access {
        Access::Allow => Ok(policy),
        Access::Deny => Err(Problem::new(
            ErrorCode::Denied,
            format!("{} may not run on this node ({policy})", tool.name()),
        )
        .next("Change the rule in the settings of the tool node if it should.")),
        Access::Ask => {
            let digest = digest::of_call(tool.name(), arguments);
            if approval == Some(digest.as_str()) {
                return Ok(format!("{policy}; the person agreed"));
            }
            let detail = match approval {
                None => format!("{} runs only after the person has agreed ({policy})", tool.name()),
                Some(_) => format!("the person agreed to another call of {} than this one", tool.name()),
            };
            let request = ApprovalRequest {
                tool: tool.name().to_owned(),
                arguments: arguments.clone(),
                command: tool.command(arguments),
                reason: policy,
                digest,
                spans: Vec::new(),
            };
            let problem = Problem::new(ErrorCode::ApprovalRequired, detail).next(
                "Show the request to the person and repeat the call with `approval` set to its digest.",
            );
            Err(match serde_json::to_value(request) {
                Ok(data) => problem.data(data),
                Err(_) => problem,
            })
        }
    }
}
