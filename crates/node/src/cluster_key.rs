//! The key that lets a caller into a cluster that listens beyond loopback.

use std::{
    fmt, fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::NodeError;

const KEY_BYTES: usize = 32;

/// 32 random bytes, written as 64 hexadecimal digits. Redacted in Debug, wiped from memory when dropped.
#[derive(Clone)]
pub struct ClusterKey(Arc<Zeroizing<String>>);

impl ClusterKey {
    /// Reads the key from its file.
    ///
    /// # Errors
    /// If the file cannot be read, is not a key, or (on Unix) others than its owner may open it.
    pub fn load(path: &Path) -> Result<Self, NodeError> {
        refuse_loose_mode(path)?;
        let text = Zeroizing::new(fs::read_to_string(path).map_err(NodeError::file("read", path))?);
        let digits = text.trim();
        if digits.len() != 2 * KEY_BYTES || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let reason =
                "a cluster key has 64 hexadecimal digits; copy it again from the orchestrator's machine";
            return Err(NodeError::Content { path: path.to_owned(), reason: reason.to_owned() });
        }
        Ok(Self(Arc::new(Zeroizing::new(digits.to_ascii_lowercase()))))
    }

    /// Reads the key, or makes one and writes it with mode 0600 if there is no such file.
    ///
    /// # Errors
    /// As [`ClusterKey::load`]; also if no randomness is to be had or the file cannot be written.
    pub fn load_or_create(path: &Path) -> Result<Self, NodeError> {
        if path.exists() {
            return Self::load(path);
        }
        let key = Self::generate()?;
        match create_private_file(path, key.0.as_bytes()) {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Self::load(path),
            Err(error) => Err(NodeError::file("write", path)(error)),
        }
    }

    /// A new key.
    ///
    /// # Errors
    /// If no randomness is to be had.
    pub fn generate() -> Result<Self, NodeError> {
        Ok(Self(Arc::new(random_hex()?)))
    }

    /// Whether this is the key, in a time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, candidate: &str) -> bool {
        self.0.as_bytes().ct_eq(candidate.as_bytes()).into()
    }

    /// The 64 digits, for a header.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey([redacted])")
    }
}

/// 32 random bytes in hexadecimal.
pub(crate) fn random_hex() -> Result<Zeroizing<String>, NodeError> {
    let mut bytes = Zeroizing::new([0_u8; KEY_BYTES]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|error| NodeError::Randomness(error.to_string()))?;
    Ok(Zeroizing::new(hex::encode(bytes.as_slice())))
}

fn create_private_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    // Written beside and linked into place, so that another process that starts now never reads half a key.
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&beside).and_then(|mut file| {
        file.write_all(content)?;
        file.write_all(b"\n")?;
        file.sync_all()
    });
    let linked = written.and_then(|()| fs::hard_link(&beside, path));
    let removed = fs::remove_file(&beside);
    linked.and(removed)
}

#[cfg(unix)]
fn refuse_loose_mode(path: &Path) -> Result<(), NodeError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).map_err(NodeError::file("read", path))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(NodeError::KeyMode { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_loose_mode(_path: &Path) -> Result<(), NodeError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_matches_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.key");
        let key = ClusterKey::load_or_create(&path).unwrap();
        let again = ClusterKey::load_or_create(&path).unwrap();
        assert!(key.matches(again.expose()));
        assert_eq!(key.expose().len(), 64);
        assert!(!key.matches(""));
        assert!(!key.matches(&key.expose()[..63]));
        assert!(!key.matches(ClusterKey::generate().unwrap().expose()));
        assert_eq!(format!("{key:?}"), "ClusterKey([redacted])");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the key");
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.key");
        ClusterKey::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o660, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = ClusterKey::load(&path).unwrap_err();
            assert!(matches!(error, NodeError::KeyMode { mode: found, .. } if found == mode));
            assert!(error.to_string().contains("chmod 600"));
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_a_key_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.key");
        for content in ["", "abc", &"g".repeat(64), &"a".repeat(63), &"a".repeat(66)] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(ClusterKey::load(&path), Err(NodeError::Content { .. })), "{content}");
        }
    }
}
