//! Bundles as zips: how AWS Lambda takes code, and gives it back.
//! What is unpacked is trusted in nothing: what an archive says of its sizes is a bound, and what it holds is counted.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use model::{BundleFile, Limits, Manifest};
use zip::{
    CompressionMethod, DateTime, ZipArchive, ZipWriter,
    result::{ZipError, ZipResult},
    write::SimpleFileOptions,
};

use super::{UnpackError, Unpacked};

/// The bits of a mode that say what kind of file it is.
const KIND: u32 = 0o170_000;

/// What they say of a symbolic link.
const LINK: u32 = 0o120_000;

/// What they say of a plain file; some archivers say nothing.
const PLAIN: [u32; 2] = [0o100_000, 0];

/// Unpacks a zip into `dest`, an empty folder, with the limits and the rules of every bundle.
/// Stops at the first thing that is not allowed; every file has reached the disk when it returns.
pub fn unpack_zip(
    mut reader: impl Read + Seek,
    dest: &Path,
    limits: &Limits,
) -> Result<Manifest, UnpackError> {
    let mut unpacked = Unpacked::new(dest, limits);
    // Before the list of its files is read into memory.
    let announced = announced(&mut reader).map_err(|error| UnpackError::NoZip(error.into()))?;
    let most = limits.bundle_files.saturating_mul(2);
    if announced.is_some_and(|count| u64::from(count) > most || count == u16::MAX) {
        return Err(unpacked.too_many());
    }
    let mut archive = ZipArchive::new(reader).map_err(UnpackError::NoZip)?;
    // Each file that is written is synced, which takes its time: those that are too many are counted before.
    let is_folder = |name: &str| name.ends_with('/');
    let names = archive.file_names();
    let files = names.filter(|name| !name.as_deref().is_ok_and(is_folder));
    if files.count() as u64 > limits.bundle_files {
        return Err(unpacked.too_many());
    }
    for at in 0..archive.len() {
        let mut entry = archive.by_index(at).map_err(UnpackError::NoZip)?;
        let path = entry.name_raw().to_vec();
        if path.ends_with(b"/") {
            // Folders come with their files; their entries say nothing.
            continue;
        }
        let mode = entry.unix_mode().unwrap_or(0);
        if !PLAIN.contains(&(mode & KIND)) {
            let path = String::from_utf8_lossy(&path).chars().take(120).collect();
            let is_link = mode & KIND == LINK;
            let kind = if is_link {
                "a symbolic link"
            } else {
                "a device or a pipe"
            };
            return Err(UnpackError::Kind { kind, path });
        }
        let size = entry.size();
        let written = unpacked.file(&mut entry, &path, size, mode & 0o100 != 0);
        written.map_err(as_zip)?;
        // What holds more than it says is damaged; the last read also compares the checksum.
        let more = entry.read(&mut [0]);
        if more.map_err(|error| UnpackError::NoZip(error.into()))? > 0 {
            return Err(UnpackError::NoZip(ZipError::InvalidArchive(
                "a file is longer than it says".into(),
            )));
        }
    }
    unpacked.finish()
}

/// What is corrupt here is a zip.
fn as_zip(error: UnpackError) -> UnpackError {
    match error {
        UnpackError::Corrupt(cause) => UnpackError::NoZip(cause.into()),
        other => other,
    }
}

/// Longest comment at the end of a zip, and the record before it.
const END_MAX: u64 = 65_535 + 22;

/// The number of files by the record at the end of a zip, if one is found.
fn announced(reader: &mut (impl Read + Seek)) -> io::Result<Option<u16>> {
    let length = reader.seek(SeekFrom::End(0))?;
    reader.seek(SeekFrom::Start(length.saturating_sub(END_MAX)))?;
    let mut tail = Vec::new();
    reader.take(END_MAX).read_to_end(&mut tail)?;
    let found = tail
        .windows(12)
        .rposition(|bytes| bytes.starts_with(b"PK\x05\x06"));
    let count = found.and_then(|at| tail[at + 10..].first_chunk());
    Ok(count.map(|bytes| u16::from_le_bytes(*bytes)))
}

/// Writes the manifest's files below `dir` as a zip. The same files give the same bytes.
pub fn pack_zip(dir: &Path, manifest: &Manifest, writer: impl Write + Seek) -> io::Result<()> {
    pack(dir, manifest, writer).map_err(io::Error::other)
}

fn pack(dir: &Path, manifest: &Manifest, writer: impl Write + Seek) -> ZipResult<()> {
    let mut archive = ZipWriter::new(writer);
    for BundleFile {
        path, executable, ..
    } in manifest.files()
    {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .unix_permissions(if *executable { 0o755 } else { 0o644 });
        archive.start_file(path.as_str(), options)?;
        io::copy(&mut File::open(dir.join(path))?, &mut archive)?;
    }
    archive.finish()?.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests;
