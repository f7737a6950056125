//! The house rules, held against the manifests and the files themselves: which crate may know which, where the dangerous
//! parts live, why each dependency is there, and how large a file may grow.

#![expect(clippy::unwrap_used, reason = "a test's own scaffolding fails loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Every crate of the house by its folder, and the siblings it may name. What is not here is not allowed.
const ARROWS: [(&str, &[&str]); 15] = [
    (
        "cli",
        &["ledger", "llm", "memory", "models", "node", "orchestrator", "protocol", "sandbox", "tools", "web"],
    ),
    ("inference", &["models"]),
    ("ledger", &[]),
    ("llm", &["inference", "models", "node", "protocol"]),
    ("memory", &["inference", "models", "node", "protocol"]),
    ("models", &[]),
    ("node", &["protocol"]),
    ("orchestrator", &["ledger", "node", "placement", "plan", "protocol"]),
    ("placement", &["protocol"]),
    ("plan", &["protocol"]),
    ("protocol", &[]),
    ("sandbox", &[]),
    ("sim", &["ledger", "node", "orchestrator", "plan", "protocol"]),
    ("tools", &["node", "protocol", "sandbox"]),
    ("web", &[]),
];

/// What a crate must never name outside its tests.
const FORBIDDEN: [(&str, &[&str]); 7] = [
    ("protocol", IO),
    ("plan", PURE),
    ("placement", PURE),
    ("ledger", PURE),
    ("inference", HTTP),
    ("sandbox", HTTP),
    ("web", &["rusqlite", "reqwest"]),
];
const HTTP: &[&str] = &["axum", "hyper", "reqwest", "tower", "tower-http", "utoipa-axum"];
const IO: &[&str] = &[
    "tokio",
    "tokio-stream",
    "tokio-util",
    "axum",
    "hyper",
    "reqwest",
    "tower",
    "tower-http",
    "utoipa-axum",
    "rusqlite",
];
const PURE: &[&str] = &[
    "tokio",
    "tokio-stream",
    "tokio-util",
    "axum",
    "hyper",
    "reqwest",
    "tower",
    "tower-http",
    "utoipa-axum",
    "rusqlite",
    "getrandom",
    "rand",
];

/// A dependency that has one home only.
const HOMES: [(&str, &[&str]); 8] = [
    ("llama-cpp-2", &["inference"]),
    ("llama-cpp-sys-2", &["inference"]),
    ("rmcp", &["tools"]),
    ("landlock", &["sandbox"]),
    ("seccompiler", &["sandbox"]),
    ("ed25519-dalek", &["ledger"]),
    ("anyhow", &["cli"]),
    ("rusqlite", &["memory", "orchestrator", "tools"]),
];

/// The only crate that may relax the ban on unsafe code.
const UNSAFE_HOME: &str = "sandbox";
const MAX_LINES: usize = 800;
const NAMELESS: [&str; 5] = ["common", "helper", "helpers", "misc", "utils"];

/// A crate of the house with what it names: dependency and whether only its tests use it.
struct Room {
    folder: String,
    package: String,
    names: Vec<(String, bool)>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap()
}

fn rooms() -> Vec<Room> {
    metadata()
        .workspace_packages()
        .into_iter()
        .map(|package| Room {
            folder: package.manifest_path.parent().unwrap().file_name().unwrap().to_owned(),
            package: package.name.to_string(),
            names: package
                .dependencies
                .iter()
                .map(|dependency| (dependency.name.clone(), dependency.kind == DependencyKind::Development))
                .collect(),
        })
        .collect()
}

fn package_of(folder: &str) -> String {
    if folder == "cli" { "kamil".to_owned() } else { format!("kamil-{folder}") }
}

fn broken_arrows(rooms: &[Room]) -> Vec<String> {
    let allowed: BTreeMap<_, _> = ARROWS.into_iter().collect();
    let mut broken = Vec::new();
    for room in rooms {
        let Some(siblings) = allowed.get(room.folder.as_str()) else {
            broken.push(format!("crates/{} has no place in the house", room.folder));
            continue;
        };
        let siblings: BTreeSet<_> = siblings.iter().map(|folder| package_of(folder)).collect();
        for (name, _) in &room.names {
            if name.starts_with("kamil") && !siblings.contains(name) {
                broken.push(format!("{} must not know {name}", room.package));
            }
        }
    }
    broken
}

fn forbidden_names(rooms: &[Room]) -> Vec<String> {
    let forbidden: BTreeMap<_, _> = FORBIDDEN.into_iter().collect();
    let homes: BTreeMap<_, _> = HOMES.into_iter().collect();
    let mut broken = Vec::new();
    for room in rooms {
        let folder = room.folder.as_str();
        for (name, _) in room.names.iter().filter(|(_, only_tests)| !only_tests) {
            if forbidden.get(folder).is_some_and(|names| names.contains(&name.as_str())) {
                broken.push(format!("{} must not name {name}", room.package));
            }
            if homes.get(name.as_str()).is_some_and(|home| !home.contains(&folder)) {
                broken.push(format!("{name} has no home in {}", room.package));
            }
        }
    }
    broken
}

fn manifest(path: &Path) -> toml::Table {
    toml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The project's own files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn is_source(path: &Path) -> bool {
    let written = ["rs", "js", "css", "html", "py", "sh"];
    path.extension().is_none_or(|extension| written.iter().any(|known| extension == *known))
}

#[test]
fn a_folder_is_its_crates_name_without_the_prefix() {
    let wrong: Vec<_> = rooms()
        .into_iter()
        .filter(|room| package_of(&room.folder) != room.package)
        .map(|room| format!("crates/{} holds {}", room.folder, room.package))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn crates_know_only_the_siblings_the_design_gives_them() {
    let rooms = rooms();
    assert_eq!(broken_arrows(&rooms), Vec::<String>::new());
    let there: BTreeSet<_> = rooms.iter().map(|room| room.folder.as_str()).collect();
    let drawn: BTreeSet<_> = ARROWS.iter().map(|(folder, _)| *folder).collect();
    assert_eq!(there, drawn, "the crates on disk and those of the house differ");
}

#[test]
fn crates_name_nothing_they_must_never_name() {
    assert_eq!(forbidden_names(&rooms()), Vec::<String>::new());
}

#[test]
fn a_broken_rule_is_found() {
    let room = |folder: &str, name: &str, only_tests| Room {
        folder: folder.to_owned(),
        package: package_of(folder),
        names: vec![(name.to_owned(), only_tests)],
    };
    assert_eq!(broken_arrows(&[room("llm", "kamil-tools", false)]).len(), 1);
    assert_eq!(broken_arrows(&[room("web", "kamil-node", true)]).len(), 1);
    assert_eq!(broken_arrows(&[room("cellar", "serde", false)]).len(), 1);
    assert_eq!(forbidden_names(&[room("plan", "tokio", false)]).len(), 1);
    assert_eq!(forbidden_names(&[room("llm", "llama-cpp-2", false)]).len(), 1);
    assert_eq!(forbidden_names(&[room("plan", "tokio", true)]).len(), 0);
}

#[test]
fn unsafe_code_has_one_home_and_every_crate_keeps_the_shared_lints() {
    let shared = manifest(&root().join("Cargo.toml"));
    assert_eq!(shared["workspace"]["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
    for room in rooms() {
        let lints = manifest(&root().join("crates").join(&room.folder).join("Cargo.toml"));
        let shares = lints["lints"].get("workspace").and_then(toml::Value::as_bool) == Some(true);
        assert!(shares || room.folder == UNSAFE_HOME, "{} has lints of its own", room.package);
    }
}

#[test]
fn versions_are_stated_once_in_the_root_manifest() {
    let mut own = Vec::new();
    for room in rooms() {
        let manifest = manifest(&root().join("crates").join(&room.folder).join("Cargo.toml"));
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in manifest.get(section).and_then(toml::Value::as_table).into_iter().flatten() {
                if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    own.push(format!("{}: {name}", room.package));
                }
            }
        }
    }
    assert!(own.is_empty(), "these are to say `workspace = true`: {own:#?}");
}

#[test]
fn every_dependency_has_its_reason_and_no_reason_is_left_over() {
    let used: BTreeSet<String> = rooms()
        .into_iter()
        .flat_map(|room| room.names)
        .map(|(name, _)| name)
        .filter(|name| !name.starts_with("kamil"))
        .collect();
    let text = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let mut explained = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, name, reason, _] = cells.as_slice() else { panic!("not two cells: {line}") };
        assert!(reason.len() > 10, "no reason for {name}");
        assert!(explained.insert(name.trim_matches('`').to_owned()), "{name} is there twice");
    }
    let missing: Vec<_> = used.difference(&explained).collect();
    let stale: Vec<_> = explained.difference(&used).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "without a reason: {missing:?}; no longer used: {stale:?}"
    );
}

#[test]
fn no_source_file_is_too_long_or_nameless() {
    let mut wrong = Vec::new();
    for folder in ["crates", "scripts", ".ci"] {
        for path in files_below(&root().join(folder)).into_iter().filter(|path| is_source(path)) {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            if lines > MAX_LINES {
                wrong.push(format!("{} has {lines} lines", path.display()));
            }
            if path.file_stem().is_some_and(|stem| NAMELESS.iter().any(|name| stem == *name)) {
                wrong.push(format!("{} is named after nothing", path.display()));
            }
            if path.ends_with("mod.rs") {
                wrong.push(format!("{}: write foo.rs rather than foo/mod.rs", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
