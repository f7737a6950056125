//! Where an interpreter lies, and what of the host it needs to see.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// A program of the host, ready to be named in a [`Command`](crate::Command).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its absolute path, the same inside the sandbox.
    pub path: PathBuf,
    /// What to add to [`Policy::read_only_binds`](crate::Policy::read_only_binds); empty for a system program.
    pub read_only_binds: Vec<PathBuf>,
}

/// Finds `name` in the caller's `PATH`, as a program that can run confined: one of the system, or one in the `bin` of
/// an installation prefix (a pyenv version, a virtual environment). Entries whose prefix is a home folder or as broad
/// are passed over, since binding them would show private files. A pyenv shim stands for the version it would choose.
#[must_use]
pub fn find_program(name: &str) -> Option<Program> {
    let path = std::env::var_os("PATH")?;
    let home = std::env::var_os("HOME").map(PathBuf::from);
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .find_map(|folder| locate(&folder, name, home.as_deref()))
}

fn locate(folder: &Path, name: &str, home: Option<&Path>) -> Option<Program> {
    if Path::new(name).components().count() != 1 {
        return None;
    }
    if let Some(root) = pyenv_root(folder) {
        let chosen = std::fs::read_to_string(root.join("version")).ok()?;
        let version = chosen.lines().map(str::trim).find(|version| is_plain_name(version))?;
        return if version == "system" {
            None
        } else {
            in_prefix(&root.join("versions").join(version).join("bin").join(name), home)
        };
    }
    let file = folder.join(name);
    if !is_executable(&file) {
        return None;
    }
    let target = file.canonicalize().ok()?;
    if is_system(&target) && is_system(&file) {
        return Some(Program { path: file, read_only_binds: Vec::new() });
    }
    in_prefix(&file, home)
}

fn in_prefix(file: &Path, home: Option<&Path>) -> Option<Program> {
    if !is_executable(file) {
        return None;
    }
    let target = file.canonicalize().ok()?;
    let prefix = |file: &Path| file.parent()?.parent().map(Path::to_owned);
    let own = prefix(file)?;
    let environment = own.join("pyvenv.cfg").is_file();
    let mut read_only_binds = Vec::new();
    let target_prefix = prefix(&target)?;
    if !is_system(&target) {
        read_only_binds.push(acceptable(target_prefix, home)?);
    }
    // A virtual environment works by the path that it is called by; any other link is better followed.
    if environment && !read_only_binds.contains(&own) {
        read_only_binds.push(acceptable(own, home)?);
    }
    Some(Program { path: if environment { file.to_owned() } else { target }, read_only_binds })
}

/// A prefix that holds an installation and nothing else.
fn acceptable(prefix: PathBuf, home: Option<&Path>) -> Option<PathBuf> {
    let depth = prefix.components().filter(|part| matches!(part, Component::Normal(_))).count();
    let broad = home.is_some_and(|home| home.starts_with(&prefix) || prefix == home.join(".local"));
    (depth >= 2 && !broad).then_some(prefix)
}

fn pyenv_root(folder: &Path) -> Option<&Path> {
    let root = folder.parent()?;
    (folder.file_name()? == "shims" && root.join("versions").is_dir()).then_some(root)
}

fn is_plain_name(version: &str) -> bool {
    !version.is_empty() && !version.starts_with(['.', '#']) && !version.contains('/')
}

fn is_system(file: &Path) -> bool {
    ["/usr", "/bin", "/sbin", "/lib", "/lib64"].iter().any(|folder| file.starts_with(folder))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    !file.as_os_str().as_bytes().contains(&0)
        && file.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn program(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_shim_stands_for_the_version_it_chooses() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap().join("pyenv");
        program(&root.join("shims/python3"));
        program(&root.join("versions/3.11.7/bin/python3"));
        fs::write(root.join("version"), "3.11.7\n3.10.1\n").unwrap();
        let found = locate(&root.join("shims"), "python3", None).unwrap();
        assert_eq!(found.path, root.join("versions/3.11.7/bin/python3"));
        assert_eq!(found.read_only_binds, [root.join("versions/3.11.7")]);
        fs::write(root.join("version"), "../../etc\n").unwrap();
        assert_eq!(locate(&root.join("shims"), "python3", None), None);
    }

    #[test]
    fn a_virtual_environment_brings_its_base_along() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        program(&root.join("base/3.12/bin/python3.12"));
        fs::create_dir_all(root.join("project/.venv/bin")).unwrap();
        fs::write(root.join("project/.venv/pyvenv.cfg"), "").unwrap();
        symlink(root.join("base/3.12/bin/python3.12"), root.join("project/.venv/bin/python3")).unwrap();
        let found = locate(&root.join("project/.venv/bin"), "python3", None).unwrap();
        assert_eq!(found.path, root.join("project/.venv/bin/python3"));
        assert_eq!(found.read_only_binds, [root.join("base/3.12"), root.join("project/.venv")]);
    }

    #[test]
    fn a_prefix_that_would_show_the_home_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        program(&home.join("bin/tool"));
        program(&home.join(".local/bin/tool"));
        program(&home.join("apps/tool-1/bin/tool"));
        assert_eq!(locate(&home.join("bin"), "tool", Some(&home)), None);
        assert_eq!(locate(&home.join(".local/bin"), "tool", Some(&home)), None);
        assert!(locate(&home.join("apps/tool-1/bin"), "tool", Some(&home)).is_some());
        assert_eq!(locate(&home.join("apps/tool-1"), "bin/tool", Some(&home)), None);
    }

    #[test]
    fn a_system_program_needs_nothing_more() {
        let found = locate(Path::new("/bin"), "sh", None).unwrap();
        assert_eq!(found, Program { path: "/bin/sh".into(), read_only_binds: Vec::new() });
    }
}
