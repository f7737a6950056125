//! The head of the log as a signed note, after C2SP `tlog-checkpoint`.

use std::fmt;

use crate::hash::Hash;
use crate::key::{SigningKey, VerifierKey};
use crate::note::{NoteError, SignedNote};

/// Why a checkpoint was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note or its signature is not good.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note's text is not that of a checkpoint.
    #[error("the note is not a checkpoint: its {0} is missing or malformed")]
    Format(&'static str),
    /// The log named in the checkpoint is not the one the key belongs to.
    #[error("the checkpoint is of the log {found}, the key of {wanted}")]
    Origin {
        /// The name of the key.
        wanted: String,
        /// The origin in the checkpoint.
        found: String,
    },
}

/// What a log says of itself at one moment: its name, how many leaves it has, and the root over them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: Hash,
    extensions: Vec<String>,
}

impl Checkpoint {
    /// The head of the log `origin` (such as `kamil.local/home`, the name of its key) at `size` leaves.
    ///
    /// # Errors
    /// [`CheckpointError::Format`] when the origin is empty or has a control character.
    pub fn new(origin: &str, size: u64, root: Hash) -> Result<Self, CheckpointError> {
        if origin.is_empty() || origin.contains(char::is_control) {
            return Err(CheckpointError::Format("origin"));
        }
        Ok(Self { origin: origin.to_owned(), size, root, extensions: Vec::new() })
    }

    /// Signs the head. The caller must never sign two heads that are not consistent with each other.
    ///
    /// # Errors
    /// [`CheckpointError::Note`] when the text grew too large to sign.
    pub fn sign(&self, key: &SigningKey) -> Result<SignedNote, CheckpointError> {
        Ok(SignedNote::sign(&self.to_string(), key)?)
    }

    /// Reads a signed checkpoint and checks that the log which holds `key` signed it.
    ///
    /// # Errors
    /// Any [`CheckpointError`].
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let note = SignedNote::parse(note)?;
        note.verify(key)?;
        let checkpoint = Self::parse_text(note.text())?;
        if checkpoint.origin != key.name() {
            return Err(CheckpointError::Origin { wanted: key.name().to_owned(), found: checkpoint.origin });
        }
        Ok(checkpoint)
    }

    /// Reads the text of a checkpoint, without signatures.
    ///
    /// # Errors
    /// [`CheckpointError::Format`].
    pub fn parse_text(text: &str) -> Result<Self, CheckpointError> {
        let body = text.strip_suffix('\n').ok_or(CheckpointError::Format("last newline"))?;
        let mut lines = body.split('\n');
        let origin = lines.next().unwrap_or_default();
        let size = lines.next().and_then(parse_size).ok_or(CheckpointError::Format("size"))?;
        let root = lines.next().and_then(|line| line.parse().ok()).ok_or(CheckpointError::Format("root"))?;
        let mut checkpoint = Self::new(origin, size, root)?;
        for line in lines {
            if line.is_empty() {
                return Err(CheckpointError::Format("extension"));
            }
            checkpoint.extensions.push(line.to_owned());
        }
        Ok(checkpoint)
    }

    /// The log's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over the leaves.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.root
    }

    /// Lines after the root, which this version neither writes nor reads a meaning into.
    #[must_use]
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, self.root)?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Decimal without leading zeros or sign.
fn parse_size(line: &str) -> Option<u64> {
    let size = line.parse::<u64>().ok()?;
    (size.to_string() == line).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::leaf_hash;

    fn key(name: &str) -> SigningKey {
        SigningKey::from_seed(name, &[9; 32]).unwrap()
    }

    #[test]
    fn a_signed_checkpoint_opens() {
        let head = Checkpoint::new("kamil.local/home", 20_852_163, leaf_hash(b"x")).unwrap();
        let note = head.sign(&key("kamil.local/home")).unwrap().to_string();
        assert!(note.starts_with("kamil.local/home\n20852163\n"), "{note}");
        assert_eq!(Checkpoint::open(&note, key("kamil.local/home").verifier()), Ok(head));
    }

    #[test]
    fn another_logs_checkpoint_is_refused() {
        let head = Checkpoint::new("kamil.local/other", 1, leaf_hash(b"x")).unwrap();
        let note = head.sign(&key("kamil.local/home")).unwrap().to_string();
        let opened = Checkpoint::open(&note, key("kamil.local/home").verifier());
        assert!(matches!(opened, Err(CheckpointError::Origin { .. })), "{opened:?}");
    }

    #[test]
    fn malformed_texts_are_refused_and_extensions_kept() {
        let root = leaf_hash(b"x").to_string();
        let parse = |text: String| Checkpoint::parse_text(&text);
        let kept = parse(format!("o\n0\n{root}\nmore\n")).unwrap();
        assert_eq!(kept.extensions(), ["more"]);
        assert_eq!(parse(kept.to_string()).unwrap(), kept);
        for bad in [
            format!("\n1\n{root}\n"),
            format!("o\n01\n{root}\n"),
            format!("o\n+1\n{root}\n"),
            format!("o\n-1\n{root}\n"),
            format!("o\n18446744073709551616\n{root}\n"),
            format!("o\n1\n{root}"),
            format!("o\n1\n{root}\n\n"),
            format!("o\n1\n{}\n", &root[4..]),
            format!("o\n1\n{}\n", root.trim_end_matches('=')),
            "o\n1\n".to_owned(),
        ] {
            assert!(parse(bad.clone()).is_err(), "{bad:?}");
        }
    }
}
