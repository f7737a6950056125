//! Ed25519 keys with a name, in the text forms of C2SP `signed-note`.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The signature type of a plain Ed25519 note signature.
const ED25519: u8 = 0x01;
const PRIVATE_PREFIX: &str = "PRIVATE+KEY+";

/// Why a key was not accepted. It never contains key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name is empty or has white space, a control character or a plus sign.
    #[error("a key name must be non-empty and free of spaces, control characters and '+'")]
    Name,
    /// The text has another form.
    #[error("not a key of the form {0}")]
    Format(&'static str),
    /// The key id in the text is not that of the name and key beside it.
    #[error("the key id does not belong to this name and key")]
    Id,
    /// The 32 bytes are no curve point, not its canonical encoding, or a point of low order.
    #[error("not a safe Ed25519 public key")]
    Point,
}

/// The secret half: signs notes under a name. Debug shows the name only, and the secret is wiped on drop.
#[derive(Clone)]
pub struct SigningKey {
    key: ed25519_dalek::SigningKey,
    verifier: VerifierKey,
}

impl SigningKey {
    /// A key from its 32-byte seed (RFC 8032, 5.1.5), which must come from a source of good randomness.
    ///
    /// # Errors
    /// [`KeyError::Name`] when the name is not fit for a signature line.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        let verifier = VerifierKey::new(name, key.verifying_key())?;
        Ok(Self { key, verifier })
    }

    /// Reads what [`SigningKey::to_private_text`] wrote.
    ///
    /// # Errors
    /// Any [`KeyError`]; the text is never repeated in it.
    pub fn from_private_text(text: &str) -> Result<Self, KeyError> {
        const FORM: KeyError = KeyError::Format("PRIVATE+KEY+name+id+base64");
        let (name, id, encoded) = split_key(text.strip_prefix(PRIVATE_PREFIX).ok_or(FORM)?).ok_or(FORM)?;
        let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| FORM)?);
        let Some((&ED25519, seed)) = bytes.split_first() else { return Err(FORM) };
        let seed = Zeroizing::new(<[u8; 32]>::try_from(seed).map_err(|_| FORM)?);
        let key = Self::from_seed(name, &seed)?;
        if key.verifier.id == id { Ok(key) } else { Err(KeyError::Id) }
    }

    /// The secret as one line of text, `PRIVATE+KEY+name+id+base64(0x01 ‖ seed)`, for a file only its owner can read.
    #[must_use]
    pub fn to_private_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([ED25519; 33]);
        bytes[1..].copy_from_slice(self.key.as_bytes());
        let encoded = Zeroizing::new(STANDARD.encode(*bytes));
        let VerifierKey { name, id, .. } = &self.verifier;
        Zeroizing::new(format!("{PRIVATE_PREFIX}{name}+{}+{}", hex::encode(id), encoded.as_str()))
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The Ed25519 signature over `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, secret)", self.verifier.name)
    }
}

/// The public half: a name, a key id and an Ed25519 key. In text it is `name+hex id+base64(0x01 ‖ key)`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    key: ed25519_dalek::VerifyingKey,
}

impl VerifierKey {
    /// A key from the 32 bytes of RFC 8032.
    ///
    /// # Errors
    /// [`KeyError::Name`], or [`KeyError::Point`] for an encoding that is not canonical or a point of low order.
    pub fn from_bytes(name: &str, bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Point)?;
        if key.is_weak() || key.to_edwards().compress().as_bytes() != bytes {
            return Err(KeyError::Point);
        }
        Self::new(name, key)
    }

    fn new(name: &str, key: ed25519_dalek::VerifyingKey) -> Result<Self, KeyError> {
        if !is_key_name(name) {
            return Err(KeyError::Name);
        }
        let hash = Sha256::new()
            .chain_update(name)
            .chain_update([b'\n', ED25519])
            .chain_update(key.as_bytes())
            .finalize();
        Ok(Self { name: name.to_owned(), id: [hash[0], hash[1], hash[2], hash[3]], key })
    }

    /// The name, as signature lines have it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key id: the first four bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ key).
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Whether `signature` is this key's over `message`, by the strict rule: no malleable scalar, no point that is
    /// not canonical or of low order.
    #[must_use]
    pub fn accepts(&self, message: &[u8], signature: &[u8]) -> bool {
        ed25519_dalek::Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: KeyError = KeyError::Format("name+id+base64");
        let (name, id, encoded) = split_key(text).ok_or(FORM)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| FORM)?;
        let Some((&ED25519, key)) = bytes.split_first() else { return Err(FORM) };
        let key = Self::from_bytes(name, key.try_into().map_err(|_| FORM)?)?;
        if key.id == id { Ok(key) } else { Err(KeyError::Id) }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [ED25519; 33];
        bytes[1..].copy_from_slice(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id), STANDARD.encode(bytes))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

/// Whether a text can stand as the name in a signature line.
pub(crate) fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c == '+' || c.is_whitespace() || c.is_control())
}

/// Splits `name+id+base64`; the base64 part may have plus signs of its own.
fn split_key(text: &str) -> Option<(&str, [u8; 4], &str)> {
    let mut parts = text.splitn(3, '+');
    let (name, id, encoded) = (parts.next()?, parts.next()?, parts.next()?);
    let mut bytes = [0; 4];
    hex::decode_to_slice(id, &mut bytes).ok()?;
    Some((name, bytes, encoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 1.
    const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    fn key() -> SigningKey {
        SigningKey::from_seed("kamil.local/home", &hex::decode(SEED).unwrap().try_into().unwrap()).unwrap()
    }

    #[test]
    fn the_public_half_and_the_signature_are_those_of_rfc_8032() {
        assert_eq!(hex::encode(key().verifier().as_bytes()), PUBLIC);
        let signature = key().sign(b"");
        assert!(hex::encode(signature).starts_with("e5564300c360ac729086e2cc806e828a"));
        assert!(key().verifier().accepts(b"", &signature));
        assert!(!key().verifier().accepts(b"x", &signature));
        assert!(!key().verifier().accepts(b"", &signature[..63]));
    }

    #[test]
    fn text_forms_read_back() {
        let text = key().verifier().to_string();
        assert_eq!(text.parse::<VerifierKey>().unwrap(), *key().verifier());
        let private = key().to_private_text();
        assert_eq!(SigningKey::from_private_text(&private).unwrap().verifier(), key().verifier());
    }

    #[test]
    fn a_key_under_another_name_or_id_is_refused() {
        let text = key().verifier().to_string();
        assert_eq!(text.replace("home", "away").parse::<VerifierKey>(), Err(KeyError::Id));
        let private = key().to_private_text().replace("home", "away");
        assert_eq!(SigningKey::from_private_text(&private).unwrap_err(), KeyError::Id);
        for bad in ["", "a b", "a+b", "a\nb"] {
            assert_eq!(SigningKey::from_seed(bad, &[1; 32]).unwrap_err(), KeyError::Name);
        }
        for bad in ["", "x", "x+00000000", "x+00000000+", "x+00000000+AQ==", "x+zz+AQ=="] {
            assert!(matches!(bad.parse::<VerifierKey>(), Err(KeyError::Format(_))), "{bad}");
        }
    }

    #[test]
    fn points_of_low_order_and_other_encodings_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(VerifierKey::from_bytes("x", &identity), Err(KeyError::Point));
        let prime_plus = |low: u8| {
            let mut y = [0xff; 32];
            (y[0], y[31]) = (0xed + low, 0x7f);
            y
        };
        assert!((0..19).all(|low| VerifierKey::from_bytes("x", &prime_plus(low)).is_err()));
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let shown = format!("{:?}", key());
        assert_eq!(shown, "SigningKey(kamil.local/home, secret)");
    }
}
