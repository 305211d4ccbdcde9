//! Access keys: the pairs that AWS's clients sign with. A signature is checked with the secret itself, so the store has it
//! sealed (ChaCha20-Poly1305, bound to the key's id) under a key that lies in a file of its own.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use model::{Digest, ErrorType, Failure, Timestamp};
use rand::{TryRngCore, rngs::OsRng};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use store::{NewToken, Role, TokenId};
use zeroize::Zeroizing;

/// Every access key's id begins so, as people and scanners know it.
const PREFIX: &str = "AKIA";

/// Letters of an id, five bits each.
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The name of the file in the data folder, where no other is named.
const FILE: &str = "seal.key";

/// Longest file that is read: 64 digits, and what editors leave.
const FILE_MAX: u64 = 128;

/// Why there is no key to seal with.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file cannot be read or written.
    #[error("cannot use the seal key {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// Something else stands in it.
    #[error("{} holds no seal key: that is 32 bytes as 64 hexadecimal digits", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
    },
    /// It is not the key that sealed this.
    #[error("{} is not the key that sealed {id}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// The access key.
        id: String,
    },
}

/// The key that seals, read or made when it is first needed.
pub(crate) struct Seal {
    path: PathBuf,
    key: OnceLock<LessSafeKey>,
}

impl Seal {
    /// The key of this data folder.
    pub(crate) fn of(data_dir: &Path) -> Seal {
        Seal {
            path: data_dir.join(FILE),
            key: OnceLock::new(),
        }
    }

    /// The key in a file that somebody made.
    pub(crate) fn at(path: PathBuf) -> Result<Seal, SealError> {
        let seal = Seal {
            path,
            key: OnceLock::new(),
        };
        seal.key(Missing::IsAnError)?;
        Ok(seal)
    }

    fn key(&self, missing: Missing) -> Result<&LessSafeKey, SealError> {
        if let Some(key) = self.key.get() {
            return Ok(key);
        }
        let failed = |error| SealError::File {
            path: self.path.clone(),
            error,
        };
        let text = match (read(&self.path), missing) {
            (Err(error), Missing::IsMade) if error.kind() == io::ErrorKind::NotFound => {
                make(&self.path).map_err(failed)?
            }
            (text, _) => text.map_err(failed)?,
        };
        let unreadable = || SealError::Unreadable {
            path: self.path.clone(),
        };
        let bytes = Zeroizing::new(hex::decode(text.trim()).map_err(|_| unreadable())?);
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| unreadable())?;
        Ok(self.key.get_or_init(|| LessSafeKey::new(key)))
    }

    fn seal(&self, id: &str, secret: &str) -> Result<Arc<[u8]>, Failure> {
        let failed =
            |error: SealError| Failure::new(ErrorType::Internal, crate::bundles::chain(&error));
        let key = self.key(Missing::IsMade).map_err(failed)?;
        let nonce: [u8; NONCE_LEN] = chance()?;
        let mut sealed = [&nonce[..], secret.as_bytes()].concat();
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(id.as_bytes()),
                &mut sealed[NONCE_LEN..],
            )
            .map_err(|_| Failure::new(ErrorType::Internal, "the secret could not be sealed"))?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed.into())
    }

    /// The secret of an access key.
    pub(crate) fn open(&self, id: &str, sealed: &[u8]) -> Result<Zeroizing<String>, SealError> {
        let other = || SealError::Other {
            path: self.path.clone(),
            id: id.into(),
        };
        let key = self.key(Missing::IsAnError)?;
        let (nonce, sealed) = sealed.split_first_chunk().ok_or_else(other)?;
        let mut room = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let secret = key
            .open_in_place(nonce, Aad::from(id.as_bytes()), &mut room)
            .map_err(|_| other())?;
        let secret = str::from_utf8(secret).map_err(|_| other())?;
        Ok(Zeroizing::new(secret.to_owned()))
    }
}

/// What a missing file means.
#[derive(Clone, Copy)]
enum Missing {
    IsMade,
    IsAnError,
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    File::open(path)?.take(FILE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// A new key, on the disk before anything is sealed with it.
fn make(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; 32]);
    OsRng
        .try_fill_bytes(&mut bytes[..])
        .map_err(io::Error::other)?;
    let text = Zeroizing::new(hex::encode(&bytes[..]));
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{}", *text)?;
    file.sync_all()?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(text)
}

fn chance<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    match OsRng.try_fill_bytes(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => {
            let message = format!("the system gives no random bytes: {error}");
            Err(Failure::new(ErrorType::Internal, message))
        }
    }
}

/// A new access key: what is kept, and the secret that is shown once.
pub(crate) fn mint(
    seal: &Seal,
    role: Role,
    user: Option<Arc<str>>,
    expires_at: Option<Timestamp>,
) -> Result<(NewToken, Zeroizing<String>), Failure> {
    let letter = |byte: u8| char::from(LETTERS[usize::from(byte & 31)]);
    let id: String = chance::<16>()?.into_iter().map(letter).collect();
    let id = format!("{PREFIX}{id}");
    let secret = Zeroizing::new(STANDARD.encode(chance::<30>()?));
    let sealed = seal.seal(&id, &secret)?;
    let kept = NewToken {
        // No token's: nobody gets in by naming the secret.
        secret: Digest::of(&sealed),
        id: TokenId(id),
        role,
        user,
        expires_at,
        sealed: Some(sealed),
    };
    Ok((kept, secret))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_opens_with_its_own_key_under_its_own_id() {
        let folder = tempfile::tempdir().unwrap();
        let seal = Seal::of(folder.path());
        let (kept, secret) = mint(&seal, Role::Invoke, None, None).unwrap();
        let (id, sealed) = (kept.id.0, kept.sealed.unwrap());
        assert_eq!((id.len(), secret.len()), (20, 40));
        assert!(
            !sealed
                .windows(8)
                .any(|part| part == &secret.as_bytes()[..8])
        );
        assert_eq!(*seal.open(&id, &sealed).unwrap(), *secret);
        // The next start of the server.
        let again = Seal::of(folder.path());
        assert_eq!(*again.open(&id, &sealed).unwrap(), *secret);
        assert!(matches!(
            again.open("AKIAOTHER", &sealed),
            Err(SealError::Other { .. })
        ));
        let mode = folder
            .path()
            .join(FILE)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_no_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine");
        assert!(matches!(
            Seal::at(path.clone()),
            Err(SealError::File { .. })
        ));
        for bad in [
            "",
            "abc",
            &"zz".repeat(32),
            &"ab".repeat(31),
            &"ab".repeat(70),
        ] {
            std::fs::write(&path, bad).unwrap();
            assert!(
                matches!(Seal::at(path.clone()), Err(SealError::Unreadable { .. })),
                "{bad}"
            );
        }
        std::fs::write(&path, format!("{}\n", "ab".repeat(32))).unwrap();
        assert!(Seal::at(path).is_ok());
    }
}
