//! The folder of models: what is there, where a name leads, removal.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::catalogue::{CatalogueEntry, catalogue};
use crate::digest::hex_sha256;
use crate::error::ModelError;
use crate::gguf::GgufHeader;
use crate::name::{ModelName, RemoteFile};

/// Tells how many bytes are free for a folder.
pub type FreeSpaceProbe = Arc<dyn Fn(&Path) -> io::Result<u64> + Send + Sync>;

/// The folder that holds model files, `$KAMIL_HOME/models`.
#[derive(Clone)]
pub struct ModelsDir {
    root: PathBuf,
    free_space: FreeSpaceProbe,
}

/// A model file on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstalledModel {
    /// The name to use for it: catalogue name, URL or path.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hex as verified when it was fetched; `None` for a file that was not fetched by Kamil.
    pub sha256: Option<String>,
    /// What the catalogue says of it.
    #[serde(skip)]
    pub entry: Option<&'static CatalogueEntry>,
}

/// Kept beside a file that came from a URL.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) url: String,
    pub(crate) sha256: String,
}

impl std::fmt::Debug for ModelsDir {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ModelsDir").field("root", &self.root).finish_non_exhaustive()
    }
}

impl ModelsDir {
    /// The folder at `root`, which is made when something is fetched.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), free_space: Arc::new(file_system_free_bytes) }
    }

    /// Uses another way to find the free space; the default asks the file system.
    #[must_use]
    pub fn with_free_space_probe(mut self, probe: FreeSpaceProbe) -> Self {
        self.free_space = probe;
        self
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the model that `name` means is or will be.
    pub fn path_of(&self, name: &ModelName) -> PathBuf {
        match name {
            ModelName::Catalogue(entry) => self.root.join(entry.file_name()),
            ModelName::File(path) => path.clone(),
            ModelName::Url(file) => self.root.join(url_file_name(file)),
        }
    }

    /// Finds the file of the model called `name`, and checks that it is whole.
    ///
    /// # Errors
    /// [`ModelError::UnknownName`], [`ModelError::NotInstalled`], [`ModelError::BrokenFile`], [`ModelError::Io`].
    pub fn resolve(&self, name: &str) -> Result<InstalledModel, ModelError> {
        let parsed = ModelName::parse(name)?;
        let path = self.path_of(&parsed);
        let is_local = matches!(parsed, ModelName::File(_));
        if !is_local && !path.exists() {
            let name = match &parsed {
                ModelName::Catalogue(entry) => entry.name,
                _ => name,
            };
            return Err(ModelError::NotInstalled { name: name.to_owned() });
        }
        GgufHeader::open(&path)?;
        describe(&path, is_local.then(|| name.to_owned()))
    }

    /// The models in the folder, by name.
    ///
    /// # Errors
    /// [`ModelError::Io`] if the folder cannot be read; a folder that does not exist is empty.
    pub fn list(&self) -> Result<Vec<InstalledModel>, ModelError> {
        let io = |source| ModelError::Io { operation: "list", path: self.root.clone(), source };
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io(error)),
        };
        let mut models = Vec::new();
        for entry in entries {
            let path = entry.map_err(io)?.path();
            let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
            if !hidden && path.extension().is_some_and(|extension| extension == "gguf") {
                models.push(describe(&path, None)?);
            }
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    /// Removes a fetched model, and what remains of an interrupted download of it.
    ///
    /// # Errors
    /// [`ModelError::UnknownName`]; [`ModelError::NotInstalled`] if there is nothing to remove, or if `name` is a file
    /// outside the folder, which is not ours; [`ModelError::Io`].
    pub fn remove(&self, name: &str) -> Result<(), ModelError> {
        let parsed = ModelName::parse(name)?;
        let path = self.path_of(&parsed);
        let inside = path.parent() == Some(&self.root);
        let missing = || ModelError::NotInstalled { name: name.to_owned() };
        if !inside {
            return Err(missing());
        }
        let mut removed = false;
        for path in [path.clone(), origin_path(&path), partial_path(&path), etag_path(&path)] {
            match fs::remove_file(&path) {
                Ok(()) => removed = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(ModelError::Io { operation: "remove", path, source }),
            }
        }
        if removed { Ok(()) } else { Err(missing()) }
    }

    /// Fails with [`ModelError::DiskFull`] unless `needed_bytes` are free.
    pub(crate) fn check_space(&self, needed_bytes: u64) -> Result<(), ModelError> {
        let available_bytes = (self.free_space)(&self.root).map_err(|source| ModelError::Io {
            operation: "find the free space of",
            path: self.root.clone(),
            source,
        })?;
        if available_bytes < needed_bytes {
            return Err(ModelError::DiskFull { path: self.root.clone(), needed_bytes, available_bytes });
        }
        Ok(())
    }

    /// An I/O error as ours: a full disk says how much is missing.
    pub(crate) fn io_error(
        &self,
        operation: &'static str,
        path: &Path,
        needed_bytes: u64,
        source: io::Error,
    ) -> ModelError {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            let available_bytes = (self.free_space)(&self.root).unwrap_or(0);
            return ModelError::DiskFull { path: self.root.clone(), needed_bytes, available_bytes };
        }
        ModelError::Io { operation, path: path.to_path_buf(), source }
    }
}

/// Describes the file at `path`; its name is `name`, else what the folder tells about it.
pub(crate) fn describe(path: &Path, name: Option<String>) -> Result<InstalledModel, ModelError> {
    let io = |source| ModelError::Io { operation: "read", path: path.to_path_buf(), source };
    let bytes = fs::metadata(path).map_err(io)?.len();
    let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let entry = catalogue().iter().find(|entry| name.is_none() && entry.file_name() == file_name);
    let origin: Option<Origin> =
        fs::read(origin_path(path)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let known = entry.map(|entry| entry.name.to_owned()).or_else(|| origin.as_ref().map(|o| o.url.clone()));
    Ok(InstalledModel {
        name: name.or(known).unwrap_or_else(|| path.display().to_string()),
        path: path.to_path_buf(),
        bytes,
        sha256: entry.map(|entry| entry.sha256.to_owned()).or(origin.map(|origin| origin.sha256)),
        entry,
    })
}

pub(crate) fn origin_path(path: &Path) -> PathBuf {
    beside(path, "origin.json")
}

pub(crate) fn partial_path(path: &Path) -> PathBuf {
    beside(path, "partial")
}

pub(crate) fn etag_path(path: &Path) -> PathBuf {
    beside(path, "etag")
}

/// A hidden file that belongs to the one at `path`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{suffix}"))
}

/// Two URLs may end in the same file name.
fn url_file_name(file: &RemoteFile) -> String {
    let hash = hex_sha256(file.url.as_bytes());
    let name: String = file
        .file_name()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
        .take(100)
        .collect();
    let stem = name.trim_start_matches('.').trim_end_matches(".gguf").trim_end_matches(".GGUF");
    format!("{stem}-{}.gguf", &hash[..12])
}

fn file_system_free_bytes(folder: &Path) -> io::Result<u64> {
    let answer = rustix::fs::statvfs(folder)?;
    Ok(answer.f_bavail.saturating_mul(answer.f_frsize))
}
