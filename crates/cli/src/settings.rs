//! `kamil.toml`: one typed tree, every key optional, an unknown key refused.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::failure::Failure;

/// All settings. An empty file is valid.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) orchestrator: OrchestratorSettings,
    pub(crate) llm: LlmSettings,
    pub(crate) tools: ToolSettings,
    pub(crate) memory: MemorySettings,
    pub(crate) node: NodeSettings,
    pub(crate) cluster: ClusterSettings,
    pub(crate) log: LogSettings,
}

/// `[orchestrator]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OrchestratorSettings {
    /// Where commands and nodes find it; default `127.0.0.1:8000`.
    pub(crate) address: Option<String>,
    /// Where it listens; default 8000.
    pub(crate) port: Option<u16>,
}

/// `[llm]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LlmSettings {
    /// Where an LLM node listens; default 8001.
    pub(crate) port: Option<u16>,
    /// The model; by default the largest of the catalogue that fits this machine.
    pub(crate) model: Option<String>,
    /// What the model is good at; by default what the catalogue says.
    pub(crate) specializations: Vec<String>,
    /// Tokens of context for a request; by default what the catalogue says.
    pub(crate) context_tokens: Option<u32>,
    /// Requests at once, 1–64; default 2.
    pub(crate) slots: Option<u32>,
    /// An OpenAI-compatible server that does the work instead.
    pub(crate) engine_url: Option<String>,
    /// Where to look for models that the catalogue does not have; default `http://127.0.0.1:11434`.
    pub(crate) ollama_url: Option<String>,
}

/// `[tools]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ToolSettings {
    /// Where a tool node listens; default 8002.
    pub(crate) port: Option<u16>,
    /// Families of tools that are offered, e.g. `["file_ops", "calc"]`; by default all.
    pub(crate) families: Vec<String>,
    /// The folder that tools may read and change; default `workspace` in Kamil's folder.
    pub(crate) workspace: Option<PathBuf>,
    /// Exceptions from the default permissions: `allow`, `ask` or `deny` for a tool or a family, e.g.
    /// `"file_ops.delete" = "ask"`; by default what reaches beyond the workspace is asked, all else allowed.
    pub(crate) permissions: kamil_tools::Rules,
}

/// `[memory]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MemorySettings {
    /// Where a memory node listens; default 8003.
    pub(crate) port: Option<u16>,
}

/// `[node]`: what every node of this machine shares.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NodeSettings {
    /// The address to listen on; default `127.0.0.1`. Another one needs a cluster key.
    pub(crate) bind: Option<IpAddr>,
    /// The name for people; by default made of the machine's name and the role.
    pub(crate) name: Option<String>,
    /// The host or address under which other machines reach this one; by default the one listened on.
    pub(crate) advertise: Option<String>,
    /// Host names, beside the own ones, under which requests are accepted; by default none.
    pub(crate) allowed_hosts: Vec<String>,
    /// A hardware profile that replaces the probe; by default the hardware is probed.
    pub(crate) hardware_profile: Option<PathBuf>,
}

/// `[cluster]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ClusterSettings {
    /// The file with the cluster's key, mode 0600; by default there is none, and Kamil stays on this machine.
    pub(crate) key_file: Option<PathBuf>,
}

/// `[log]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogSettings {
    /// Which records are kept, as `tracing` filters are written; default `info`.
    pub(crate) filter: Option<String>,
}

/// Every key, so that a misspelt one can be told its nearest neighbour.
const KEYS: &[&str] = &[
    "orchestrator.address",
    "orchestrator.port",
    "llm.port",
    "llm.model",
    "llm.specializations",
    "llm.context_tokens",
    "llm.slots",
    "llm.engine_url",
    "llm.ollama_url",
    "tools.port",
    "tools.families",
    "tools.workspace",
    "tools.permissions",
    "memory.port",
    "node.bind",
    "node.name",
    "node.advertise",
    "node.allowed_hosts",
    "node.hardware_profile",
    "cluster.key_file",
    "log.filter",
];

impl Settings {
    /// Reads the file; one that is not there counts as empty.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => {
                Err(Failure::usage(format!("the settings {} cannot be read: {error}", path.display()))
                    .next("make the file readable, or move it away"))
            }
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            Failure::usage(format!(
                "the settings {shown} are not valid TOML: {}",
                error.to_string().trim_end()
            ))
        })?;
        if let Some(key) = unknown_key(&table) {
            let failure = Failure::usage(format!("the settings {shown} have the unknown key `{key}`"));
            return Err(match nearest(&key) {
                Some(known) => failure.next(format!("did you mean `{known}`?")),
                None => failure.next(format!("known keys: {}", KEYS.join(", "))),
            });
        }
        toml::Value::Table(table).try_into().map_err(|error: toml::de::Error| {
            Failure::usage(format!("the settings {shown} are not valid: {}", error.to_string().trim_end()))
        })
    }
}

fn unknown_key(table: &toml::Table) -> Option<String> {
    for (section, value) in table {
        let prefix = format!("{section}.");
        if !KEYS.iter().any(|key| key.starts_with(&prefix)) {
            return Some(section.clone());
        }
        let Some(inner) = value.as_table() else { continue };
        for key in inner.keys() {
            let dotted = format!("{section}.{key}");
            if !KEYS.contains(&dotted.as_str()) {
                return Some(dotted);
            }
        }
    }
    None
}

/// A dotted key is compared as a whole; one without a section with the sections, and with the last parts of the keys,
/// since `port` at the top level is as easily written as `[lmm]`.
fn nearest(key: &str) -> Option<&'static str> {
    let part = |known: &'static str| known.split_once('.').unwrap_or((known, known));
    let candidates: Vec<(&str, &str)> = if key.contains('.') {
        KEYS.iter().map(|known| (*known, *known)).collect()
    } else {
        let sections = KEYS.iter().map(|known| (part(known).0, part(known).0));
        sections.chain(KEYS.iter().map(|known| (*known, part(known).1))).collect()
    };
    let scored = candidates.into_iter().map(|(known, compared)| (known, strsim::jaro_winkler(key, compared)));
    scored.filter(|(_, likeness)| *likeness > 0.8).max_by(|a, b| a.1.total_cmp(&b.1)).map(|(known, _)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, Failure> {
        Settings::parse(text, Path::new("kamil.toml"))
    }

    #[test]
    fn an_empty_file_is_valid() {
        assert!(parse("").unwrap().llm.model.is_none());
    }

    #[test]
    fn every_key_of_the_list_is_read() {
        for key in KEYS {
            let accepted = ["1", "\"127.0.0.1\"", "[\"a\"]", "{ calc = \"ask\" }"]
                .iter()
                .any(|value| parse(&format!("{key} = {value}")).is_ok());
            assert!(accepted, "{key}");
        }
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        for (text, unknown, known) in [
            ("[llm]\nmodle = 'x'", "llm.modle", "llm.model"),
            ("[orchestrater]\nport = 1", "orchestrater", "orchestrator"),
            ("worksapce = '/x'", "worksapce", "tools.workspace"),
            ("[node]\nbnid = '::1'", "node.bnid", "node.bind"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(
                message.contains(&format!("`{unknown}`")) && message.contains(&format!("`{known}`")),
                "{message}"
            );
        }
        assert!(parse("[zzz]\nq = 1").unwrap_err().to_string().contains("known keys"));
    }

    #[test]
    fn a_wrong_value_says_where() {
        let message = parse("[llm]\nslots = 'many'").unwrap_err().to_string();
        assert!(message.contains("slots") || message.contains("integer"), "{message}");
    }
}
