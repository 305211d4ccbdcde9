//! Bundles on their way: a tar of plain files, compressed with zstd.
//! What is packed depends on nothing but the files; what is unpacked is trusted in nothing, sizes and paths included.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use model::{BundleFile, ByteSize, ErrorType, Limits, Manifest, ManifestError};
use tar::{Archive, Builder, EntryType, Header, PaxExtensions};
use unpacked::Unpacked;
use zip::result::ZipError;

mod unpacked;
pub(crate) mod zipped;

/// zstd's own default: fast, and good on text.
const LEVEL: i32 = 3;

/// Largest window that is unpacked, as a power of two: 32 MiB of memory. Our own archives need 2 MiB.
const WINDOW_LOG_MAX: u32 = 25;

/// Largest extended header, in bytes; it holds one path.
const EXTENSION_MAX: u64 = 8 << 10;

/// Why an archive was not unpacked. What was written before stays, for the caller to delete.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Not a tar.zst, damaged, or cut short.
    #[error("the archive is no tar.zst, or it is damaged: {0}")]
    Corrupt(#[source] io::Error),
    /// Not a zip, damaged, cut short, or encrypted.
    #[error("the archive is no zip, or it is damaged: {0}")]
    NoZip(#[source] ZipError),
    /// A link, a device, or anything that is no plain file.
    #[error("the archive holds {kind}, `{path}`; a bundle holds plain files only")]
    Kind {
        /// What it is, with its article.
        kind: &'static str,
        /// What it is called.
        path: String,
    },
    /// A path that leaves the bundle, or the same path twice.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// More bytes than a bundle may have.
    #[error("the bundle is larger than {limit} unpacked, the limit `bundle_unpacked`")]
    TooLarge {
        /// The limit.
        limit: ByteSize,
    },
    /// More files than a bundle may have.
    #[error("the bundle holds more than {limit} files, the limit `bundle_files`")]
    TooMany {
        /// The limit.
        limit: u64,
    },
    /// A file that cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
}

impl UnpackError {
    /// The type that the uploader is told.
    pub fn error_type(&self) -> ErrorType {
        match self {
            UnpackError::Corrupt(_)
            | UnpackError::NoZip(_)
            | UnpackError::Kind { .. }
            | UnpackError::Manifest(_) => ErrorType::BadRequest,
            UnpackError::TooLarge { .. } | UnpackError::TooMany { .. } => {
                ErrorType::PayloadTooLarge
            }
            UnpackError::Write { .. } => ErrorType::Internal,
        }
    }
}

/// Writes the manifest's files below `dir` as tar.zst. The same files give the same bytes.
/// Fails if a file has changed its size since the manifest was made.
pub fn pack(dir: &Path, manifest: &Manifest, writer: impl Write) -> io::Result<()> {
    let mut archive = Builder::new(zstd::Encoder::new(writer, LEVEL)?);
    for BundleFile {
        path,
        size,
        executable,
        ..
    } in manifest.files()
    {
        let file = File::open(dir.join(path))?;
        if file.metadata()?.len() != *size {
            return Err(io::Error::other(format!(
                "{path} changed while it was packed"
            )));
        }
        let mut header = Header::new_gnu();
        header.set_size(*size);
        header.set_mode(if *executable { 0o755 } else { 0o644 });
        archive.append_data(&mut header, path, file.take(*size))?;
    }
    archive.into_inner()?.finish()?.flush()
}

/// Unpacks into `dest`, an empty folder, as the bytes arrive, and hashes what is written.
/// Stops at the first thing that is not allowed; every file has reached the disk when it returns.
pub fn unpack(reader: impl Read, dest: &Path, limits: &Limits) -> Result<Manifest, UnpackError> {
    let mut decoder = zstd::Decoder::new(reader).map_err(UnpackError::Corrupt)?;
    decoder
        .window_log_max(WINDOW_LOG_MAX)
        .map_err(UnpackError::Corrupt)?;
    let mut archive = Archive::new(decoder);
    let mut unpacked = Unpacked::new(dest, limits);
    // Raw: this file, not the library, decides how much of an extended header is read.
    let entries = archive.entries().map_err(UnpackError::Corrupt)?.raw(true);
    let mut long_path = None;
    let mut seen: u64 = 0;
    for entry in entries {
        let mut entry = entry.map_err(UnpackError::Corrupt)?;
        seen += 1;
        // Every file may have an extended header, and its folder an entry.
        if seen > limits.bundle_files.saturating_mul(4) {
            return Err(unpacked.too_many());
        }
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => long_path = Some(long_name(&mut entry)?),
            EntryType::XHeader => long_path = pax_path(&mut entry)?.or(long_path),
            EntryType::XGlobalHeader => drop(extension(&mut entry)?),
            _ => {
                let path = match long_path.take() {
                    Some(path) => path,
                    None => entry.header().path_bytes().into_owned(),
                };
                unpacked.entry(&mut entry, kind, &path)?;
            }
        }
    }
    unpacked.finish()
}

/// Reads an extended header.
fn extension(entry: &mut tar::Entry<'_, impl Read>) -> Result<Vec<u8>, UnpackError> {
    let size = entry.size();
    if size > EXTENSION_MAX {
        let cause = format!("an extended header of {size} bytes");
        return Err(UnpackError::Corrupt(io::Error::new(
            io::ErrorKind::InvalidData,
            cause,
        )));
    }
    let mut bytes = Vec::new();
    entry
        .read_to_end(&mut bytes)
        .map_err(UnpackError::Corrupt)?;
    Ok(bytes)
}

fn long_name(entry: &mut tar::Entry<'_, impl Read>) -> Result<Vec<u8>, UnpackError> {
    let mut path = extension(entry)?;
    if path.last() == Some(&0) {
        path.pop();
    }
    Ok(path)
}

/// The path that a pax header gives to the next file.
fn pax_path(entry: &mut tar::Entry<'_, impl Read>) -> Result<Option<Vec<u8>>, UnpackError> {
    let bytes = extension(entry)?;
    let mut path = None;
    for record in PaxExtensions::new(&bytes) {
        let record = record.map_err(UnpackError::Corrupt)?;
        match record.key_bytes() {
            b"path" => path = Some(record.value_bytes().to_vec()),
            b"size" | b"linkpath" => {
                let cause = io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a pax header changes a size or a link",
                );
                return Err(UnpackError::Corrupt(cause));
            }
            _ => {}
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests;
