//! The key that the log's heads are signed with.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use kamil_ledger::{SigningKey, VerifierKey};
use zeroize::Zeroizing;

use super::JournalError;

const SECRET: &str = "log.key";
const PUBLIC: &str = "log.pub";

/// The key in this folder, made at the first start: 32 random bytes, in a file that its owner alone can read.
pub(super) fn load_or_create(identity: &Path) -> Result<SigningKey, JournalError> {
    let path = identity.join(SECRET);
    match fs::read_to_string(&path) {
        Ok(text) => {
            refuse_loose_mode(&path)?;
            let text = Zeroizing::new(text);
            SigningKey::from_private_text(text.trim()).map_err(|error| failed("use", &path, &error))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(identity, &path),
        Err(error) => Err(failed("read", &path, &error)),
    }
}

/// The public half of the key in this folder, for checking a log without running an orchestrator.
///
/// # Errors
/// If there is no key, or it cannot be read.
pub fn verifier_key(identity: &Path) -> Result<VerifierKey, JournalError> {
    let path = identity.join(PUBLIC);
    let text = fs::read_to_string(&path).map_err(|error| failed("read", &path, &error))?;
    text.trim().parse().map_err(|error| failed("use", &path, &error))
}

fn create(identity: &Path, path: &Path) -> Result<SigningKey, JournalError> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    getrandom::fill(&mut *seed).map_err(|error| failed("make", path, &error))?;
    // The name tells logs apart, so it has to be another for every home.
    let mut tag = [0_u8; 4];
    getrandom::fill(&mut tag).map_err(|error| failed("make", path, &error))?;
    let name = format!("kamil.local/{:08x}", u32::from_be_bytes(tag));
    let key = SigningKey::from_seed(&name, &seed).map_err(|error| failed("make", path, &error))?;
    let public = identity.join(PUBLIC);
    write_new(&public, key.verifier().to_string().as_bytes(), 0o644)?;
    // The secret comes last: only it decides whether there is a key.
    write_new(path, key.to_private_text().as_bytes(), 0o600)?;
    Ok(key)
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), JournalError> {
    let partial = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        #[cfg(not(unix))]
        let _ = mode;
        let mut file = options.open(&partial)?;
        file.write_all(content)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|error| failed("write", path, &error))
}

#[cfg(unix)]
fn refuse_loose_mode(path: &Path) -> Result<(), JournalError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path).map_err(|error| failed("read", path, &error))?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let reason = format!("others can read it (mode {mode:04o}); run `chmod 600` on it");
    Err(JournalError::File { action: "use", path: path.to_owned(), reason })
}

#[cfg(not(unix))]
fn refuse_loose_mode(_path: &Path) -> Result<(), JournalError> {
    Ok(())
}

fn failed(action: &'static str, path: &Path, error: &dyn std::fmt::Display) -> JournalError {
    JournalError::File { action, path: PathBuf::from(path), reason: error.to_string() }
}
