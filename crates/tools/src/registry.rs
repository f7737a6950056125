//! Which tools there are.

use std::{collections::BTreeMap, sync::Arc};

use kamil_protocol::{ErrorCode, Problem, tool::ToolDescriptor};

use crate::{
    calc, code_tools, confinement::Confinement, failure::Failure, file_ops, ml_tools, node::StartError,
    permission::Rules, system_tools, tool::Tool, worker::Worker, workspace::Workspace,
};

/// The families of built-in tools.
pub const FAMILIES: [&str; 5] = ["calc", "code_tools", "file_ops", "ml_tools", "system_tools"];

/// The tools of a node, by name.
pub(crate) struct Registry(BTreeMap<String, Arc<Tool>>);

impl Registry {
    /// The tools that `selection` names by family or by full name; all of them if it is empty.
    pub(crate) fn new(
        selection: &[String],
        rules: &Rules,
        workspace: &Arc<Workspace>,
        confinement: &Arc<Confinement>,
        worker: &Worker,
    ) -> Result<Self, StartError> {
        let wanted = |family: &str| {
            selection.is_empty() || selection.iter().any(|name| name.split('.').next() == Some(family))
        };
        let mut all = Vec::new();
        for family in FAMILIES.into_iter().filter(|family| wanted(family)) {
            let tools = match family {
                "calc" => calc::tools(),
                "code_tools" => code_tools::tools(confinement),
                "file_ops" => file_ops::tools(workspace),
                "ml_tools" => ml_tools::tools(confinement, worker),
                _ => system_tools::tools(),
            };
            all.extend(tools.map_err(|failure: Failure| StartError::Tools(failure.to_string()))?);
        }
        for name in selection {
            if !all.iter().any(|tool| tool.family() == name || tool.name() == name) {
                return Err(StartError::UnknownFamily {
                    name: name.clone(),
                    families: FAMILIES.join(", "),
                    nearest: nearest(name, FAMILIES.into_iter()),
                });
            }
        }
        check_rules(rules, &all)?;
        all.retain(|tool| {
            selection.is_empty() || selection.iter().any(|name| tool.family() == name || tool.name() == name)
        });
        Ok(Self(all.into_iter().map(|tool| (tool.name().to_owned(), Arc::new(tool))).collect()))
    }

    pub(crate) fn descriptors(&self) -> Vec<ToolDescriptor> {
        self.0.values().map(|tool| tool.descriptor.clone()).collect()
    }

    /// The tool of this name.
    ///
    /// # Errors
    /// `tool_unknown`, with the nearest name there is.
    pub(crate) fn get(&self, name: &str) -> Result<&Arc<Tool>, Problem> {
        self.0.get(name).ok_or_else(|| {
            let shown: String = name.chars().take(80).collect();
            let problem = Problem::new(ErrorCode::ToolUnknown, format!("this node has no tool `{shown}`"));
            match nearest(name, self.0.keys().map(String::as_str)).strip_prefix("; did you mean ") {
                Some(other) => problem.next(format!("Did you mean {other}")),
                None => problem.next("GET /v1/tools lists what it has."),
            }
        })
    }
}

/// Refuses rules about what does not exist: a rule that is misspelt would protect nothing.
fn check_rules(rules: &Rules, tools: &[Tool]) -> Result<(), StartError> {
    let known = |name: &str| {
        let family = name.split('.').next().unwrap_or_default();
        // A family that is not offered has no tools to check against, and none to protect.
        let absent = FAMILIES.contains(&family) && !tools.iter().any(|tool| tool.family() == family);
        let is_tool = tools.iter().any(|tool| tool.name() == name);
        FAMILIES.contains(&name) || absent || is_tool || code_tools::NAMES.contains(&name)
    };
    let Some(name) = rules.keys().find(|name| !known(name)) else { return Ok(()) };
    let names = FAMILIES.into_iter().chain(tools.iter().map(Tool::name));
    Err(StartError::UnknownRule {
        name: name.clone(),
        families: FAMILIES.join(", "),
        nearest: nearest(name, names),
    })
}

/// A hint for an error message, or nothing.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|other| (strsim::jaro_winkler(name, other), other))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| format!("; did you mean `{other}`?"))
        .unwrap_or_default()
}
