//! Where a node keeps its state.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use crate::NodeError;

/// The folder of Kamil's state, `$KAMIL_HOME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home(PathBuf);

impl Home {
    /// The folder that is named, or else `KAMIL_HOME`, or else `kamil` in the platform's data folder (on Linux by the XDG
    /// Base Directory Specification). It and its subfolders are made if missing, readable by the owner only.
    ///
    /// # Errors
    /// If no folder is known, or it cannot be made.
    pub fn resolve(named: Option<PathBuf>) -> Result<Self, NodeError> {
        let path = named
            .or_else(|| folder_from("KAMIL_HOME"))
            .or_else(platform_data_folder)
            .ok_or(NodeError::NoHome)?;
        let path = std::path::absolute(&path).map_err(NodeError::file("find", &path))?;
        let home = Self(path);
        let folders = [home.0.clone(), home.models(), home.identity(), home.workspace(), home.logs()];
        for folder in folders {
            create_private_folder(&folder).map_err(NodeError::file("create", &folder))?;
        }
        Ok(home)
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The orchestrator's journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.0.join("journal.db")
    }

    /// The memory node's store.
    #[must_use]
    pub fn memory_db(&self) -> PathBuf {
        self.0.join("memory.db")
    }

    /// The tool node's ledger of effects.
    #[must_use]
    pub fn tools_db(&self) -> PathBuf {
        self.0.join("tools.db")
    }

    /// Models.
    #[must_use]
    pub fn models(&self) -> PathBuf {
        self.0.join("models")
    }

    /// Node ids and keys.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.0.join("identity")
    }

    /// The files that tools may work on.
    #[must_use]
    pub fn workspace(&self) -> PathBuf {
        self.0.join("workspace")
    }

    /// Log files.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// Settings.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.0.join("kamil.toml")
    }
}

fn folder_from(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from)
}

#[cfg(target_os = "macos")]
fn platform_data_folder() -> Option<PathBuf> {
    folder_from("HOME").map(|home| home.join("Library/Application Support/kamil"))
}

#[cfg(windows)]
fn platform_data_folder() -> Option<PathBuf> {
    folder_from("LOCALAPPDATA").map(|data| data.join("kamil"))
}

#[cfg(not(any(target_os = "macos", windows)))]
fn platform_data_folder() -> Option<PathBuf> {
    folder_from("XDG_DATA_HOME")
        .filter(|data| data.is_absolute())
        .or_else(|| folder_from("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("kamil"))
}

fn create_private_folder(path: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_home_is_made_for_its_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(parent.path().join("a/b"))).unwrap();
        assert_eq!(home.journal(), parent.path().join("a/b/journal.db"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            for folder in [home.path().to_owned(), home.identity(), home.workspace()] {
                assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
            }
        }
        Home::resolve(Some(home.path().to_owned())).unwrap();
    }

    #[test]
    fn a_home_that_is_a_file_is_refused_with_its_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Home::resolve(Some(file.path().to_owned())).unwrap_err().to_string();
        assert!(error.contains(&file.path().display().to_string()), "{error}");
    }
}
