//! Signed notes: text with signature lines below it, after C2SP `signed-note`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::key::{SigningKey, VerifierKey, is_key_name};

/// A note is at most this long, in bytes.
pub const MAX_NOTE_BYTES: usize = 256 * 1024;
/// A note has at most this many signature lines; the specification asks for 16 or more.
pub const MAX_SIGNATURES: usize = 64;

const SIGNATURE_START: &str = "\u{2014} ";

/// Why a note was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Too long, or with too many signatures.
    #[error("the note is longer than {MAX_NOTE_BYTES} bytes or has more than {MAX_SIGNATURES} signatures")]
    TooLarge,
    /// The text is not one that can be signed.
    #[error("a note's text must end with a newline and have no other control character")]
    Text,
    /// There is no block of signature lines, or a line in it has another form.
    #[error("the note has no signatures, or a malformed one")]
    Signatures,
    /// No signature is by the key asked for.
    #[error("the note is not signed by {0}")]
    NotSignedBy(String),
    /// A signature names the key asked for but is not by it.
    #[error("the signature in the name of {0} is false")]
    FalseSignature(String),
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// The name of the key.
    pub name: String,
    /// The id of the key.
    pub id: [u8; 4],
    /// The signature; 64 bytes for Ed25519.
    pub signature: Vec<u8>,
}

/// A text with the signatures over it. Nothing in it is to be believed before [`SignedNote::verify`] says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl SignedNote {
    /// Signs a text, which must end with a newline and have no control character but newlines.
    ///
    /// # Errors
    /// [`NoteError::Text`] or [`NoteError::TooLarge`].
    pub fn sign(text: &str, key: &SigningKey) -> Result<Self, NoteError> {
        if !text.ends_with('\n') || !is_plain(text) {
            return Err(NoteError::Text);
        }
        if text.len() > MAX_NOTE_BYTES / 2 {
            return Err(NoteError::TooLarge);
        }
        let mut note = Self { text: text.to_owned(), signatures: Vec::new() };
        note.add_signature(key)?;
        Ok(note)
    }

    /// Adds a signature, by a witness or by a new key.
    ///
    /// # Errors
    /// [`NoteError::TooLarge`] when there are [`MAX_SIGNATURES`] already.
    pub fn add_signature(&mut self, key: &SigningKey) -> Result<(), NoteError> {
        if self.signatures.len() >= MAX_SIGNATURES {
            return Err(NoteError::TooLarge);
        }
        let signature = key.sign(self.text.as_bytes()).to_vec();
        let verifier = key.verifier();
        self.signatures.push(NoteSignature {
            name: verifier.name().to_owned(),
            id: verifier.id(),
            signature,
        });
        Ok(())
    }

    /// Reads a note. The signatures are not checked yet.
    ///
    /// # Errors
    /// [`NoteError::TooLarge`], [`NoteError::Text`] or [`NoteError::Signatures`].
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLarge);
        }
        if !is_plain(note) {
            return Err(NoteError::Text);
        }
        let blank = note.rfind("\n\n").ok_or(NoteError::Signatures)?;
        let (text, block) = (&note[..=blank], &note[blank + 2..]);
        let block = block.strip_suffix('\n').ok_or(NoteError::Signatures)?;
        let mut signatures = Vec::new();
        for line in block.split('\n') {
            if signatures.len() == MAX_SIGNATURES {
                return Err(NoteError::TooLarge);
            }
            signatures.push(parse_signature(line).ok_or(NoteError::Signatures)?);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The text that the signatures are over, with its last newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines in their order.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Checks that the note is signed by `key`. Signatures by other keys are passed over, as the specification asks.
    ///
    /// # Errors
    /// [`NoteError::NotSignedBy`], or [`NoteError::FalseSignature`] when any signature in the key's name fails.
    pub fn verify(&self, key: &VerifierKey) -> Result<(), NoteError> {
        let mut signed = false;
        for signature in self.signatures.iter().filter(|s| s.name == key.name() && s.id == key.id()) {
            if !key.accepts(self.text.as_bytes(), &signature.signature) {
                return Err(NoteError::FalseSignature(key.name().to_owned()));
            }
            signed = true;
        }
        if signed { Ok(()) } else { Err(NoteError::NotSignedBy(key.name().to_owned())) }
    }
}

impl fmt::Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for NoteSignature { name, id, signature } in &self.signatures {
            let bytes = [id.as_slice(), signature.as_slice()].concat();
            writeln!(f, "{SIGNATURE_START}{name} {}", STANDARD.encode(bytes))?;
        }
        Ok(())
    }
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte >= b' ' || byte == b'\n')
}

fn parse_signature(line: &str) -> Option<NoteSignature> {
    let (name, encoded) = line.strip_prefix(SIGNATURE_START)?.split_once(' ')?;
    let bytes = STANDARD.decode(encoded).ok()?;
    let (id, signature) = bytes.split_first_chunk::<4>()?;
    (is_key_name(name) && !signature.is_empty()).then(|| NoteSignature {
        name: name.to_owned(),
        id: *id,
        signature: signature.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, seed: u8) -> SigningKey {
        SigningKey::from_seed(name, &[seed; 32]).unwrap()
    }

    #[test]
    fn a_note_reads_back_and_verifies_for_each_signer() {
        let (log, witness, stranger) = (key("log", 1), key("witness", 2), key("stranger", 3));
        let mut note = SignedNote::sign("one\n\ntwo\n", &log).unwrap();
        note.add_signature(&witness).unwrap();
        let read = SignedNote::parse(&note.to_string()).unwrap();
        assert_eq!(read, note);
        assert_eq!(read.text(), "one\n\ntwo\n");
        assert_eq!(read.verify(log.verifier()), Ok(()));
        assert_eq!(read.verify(witness.verifier()), Ok(()));
        assert_eq!(read.verify(stranger.verifier()), Err(NoteError::NotSignedBy("stranger".into())));
    }

    #[test]
    fn the_same_name_with_another_key_is_another_signer() {
        let note = SignedNote::sign("text\n", &key("log", 1)).unwrap();
        assert_eq!(note.verify(key("log", 2).verifier()), Err(NoteError::NotSignedBy("log".into())));
    }

    #[test]
    fn one_false_signature_beside_a_true_one_is_refused() {
        let log = key("log", 1);
        let mut note = SignedNote::sign("text\n", &log).unwrap();
        note.signatures.push(NoteSignature { signature: vec![7; 64], ..note.signatures[0].clone() });
        assert_eq!(note.verify(log.verifier()), Err(NoteError::FalseSignature("log".into())));
    }

    #[test]
    fn changed_text_is_refused() {
        let log = key("log", 1);
        let note = SignedNote::sign("text\n", &log).unwrap().to_string().replace("text", "next");
        let read = SignedNote::parse(&note).unwrap();
        assert_eq!(read.verify(log.verifier()), Err(NoteError::FalseSignature("log".into())));
    }

    #[test]
    fn malformed_notes_are_refused() {
        let good = SignedNote::sign("text\n", &key("log", 1)).unwrap().to_string();
        let bad = [
            String::new(),
            "text\n".to_owned(),
            "text\n\n".to_owned(),
            good.trim_end().to_owned(),
            good.replace('\u{2014}', "-"),
            good.replace(" log ", "  "),
            good.replace(" log ", " l+g "),
            good.replace('\n', "\r\n"),
            format!("{good}\n"),
            format!("{good}\u{2014} log AAAA\n"),
            format!("{good}more\n"),
            good.replace('=', ""),
        ];
        for note in bad {
            assert!(SignedNote::parse(&note).is_err(), "{note:?}");
        }
        assert_eq!(SignedNote::sign("text", &key("log", 1)), Err(NoteError::Text));
        assert_eq!(SignedNote::sign("te\txt\n", &key("log", 1)), Err(NoteError::Text));
    }

    #[test]
    fn too_many_signatures_are_refused() {
        let log = key("log", 1);
        let mut note = SignedNote::sign("text\n", &log).unwrap();
        while note.add_signature(&log).is_ok() {}
        assert_eq!(note.signatures().len(), MAX_SIGNATURES);
        let text = note.to_string();
        assert!(SignedNote::parse(&text).is_ok());
        let last = text.lines().last().unwrap().to_owned();
        assert_eq!(SignedNote::parse(&format!("{text}{last}\n")), Err(NoteError::TooLarge));
    }
}
