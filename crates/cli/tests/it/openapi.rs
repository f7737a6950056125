//! The committed OpenAPI documents are those of the code.

use crate::binary::{Kamil, project};

#[test]
fn the_committed_documents_are_those_of_the_code() {
    let kamil = Kamil::new();
    let folder = project().join("openapi");
    for role in ["orchestrator", "llm", "tool", "memory"] {
        let document = kamil.run(&["openapi", role]).succeeded();
        let parsed = document.json();
        assert_eq!(parsed["openapi"], "3.1.0", "{role}");
        assert!(
            parsed["paths"].as_object().is_some_and(|paths| paths.len() > 3),
            "{role} has hardly any paths"
        );
        let name = if role == "tool" { "tools" } else { role };
        let path = folder.join(format!("{name}.json"));
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(&path, &document.stdout).unwrap();
            continue;
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == document.stdout,
            "{} is not what the code says: run UPDATE_OPENAPI=1 cargo test -p kamil --test it openapi",
            path.display()
        );
    }
}
