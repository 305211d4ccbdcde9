//! Layers on disk: each unpacked once, and laid over one another for each list of them that a version has.
//! Also the zips that came in by the AWS Lambda profile, as they were uploaded.

use std::{
    fs, io,
    io::Cursor,
    path::{Path, PathBuf},
};

use build::UnpackError;
use bytes::Bytes;
use model::{BundleFile, Digest, ErrorType, Failure, Limits, Manifest};
use tokio::task::spawn_blocking;

use crate::bundles::{blocking, failed, remove, settle};

/// The layers and zips below one data folder.
pub(crate) struct Layers {
    /// `layers/`: unpacked layers by the digest of their zip, and lists of them by the digest of the list.
    layers: PathBuf,
    /// `code/`: zips by their digest.
    code: PathBuf,
}

impl Layers {
    pub(crate) fn new(data_dir: &Path) -> Layers {
        Layers {
            layers: data_dir.join("layers"),
            code: data_dir.join("code"),
        }
    }

    /// Where the layers of this list lie, one over the other; `None` for no layers.
    pub(crate) fn merged(&self, list: &[Digest]) -> Option<PathBuf> {
        if list.is_empty() {
            return None;
        }
        let text: Vec<String> = list.iter().map(Digest::hex).collect();
        let digest = Digest::of(text.join("\n").as_bytes());
        Some(self.layers.join(format!("list-{}", digest.hex())))
    }

    /// Where one layer lies.
    pub(crate) fn layer(&self, zip: &Digest) -> PathBuf {
        self.layers.join(zip.hex())
    }

    fn zip(&self, digest: &Digest) -> PathBuf {
        self.code.join(format!("{}.zip", digest.hex()))
    }

    /// Unpacks a layer, and answers with the bytes of its files.
    pub(crate) async fn take(
        &self,
        zip: Bytes,
        digest: &Digest,
        limits: &Limits,
    ) -> Result<u64, UnpackError> {
        let (target, limits) = (self.layer(digest), limits.clone());
        let part = target.with_extension("part");
        let write = |path: &Path| {
            let path = path.to_owned();
            move |cause| UnpackError::Write { path, cause }
        };
        let joined = write(&target);
        let unpacked = spawn_blocking(move || {
            remove(&part).map_err(write(&part))?;
            fs::create_dir_all(&part).map_err(write(&part))?;
            let manifest = build::unpack_zip(Cursor::new(zip), &part, &limits);
            let settled = manifest.and_then(|manifest| {
                settle(&part, &target).map_err(write(&target))?;
                Ok(manifest.size())
            });
            // What was unpacked of a bad one is of no use; the next try removes what is left now.
            let _ = remove(&part);
            settled
        });
        match unpacked.await {
            Ok(size) => size,
            Err(error) => Err(joined(io::Error::other(error))),
        }
    }

    /// Lays the layers of a list over one another, lowest first, if that was not done before.
    pub(crate) async fn merge(&self, list: &[Digest]) -> Result<(), Failure> {
        let Some(target) = self.merged(list) else {
            return Ok(());
        };
        let from: Vec<PathBuf> = list.iter().map(|digest| self.layer(digest)).collect();
        blocking(move || {
            if target.is_dir() {
                return Ok(());
            }
            let part = target.with_extension("part");
            let fail = |error: io::Error| failed("lay layers over one another in", &part, &error);
            remove(&part).map_err(fail)?;
            fs::create_dir_all(&part).map_err(fail)?;
            for layer in from {
                if !layer.is_dir() {
                    let message =
                        format!("a layer is gone from the data folder: {}", layer.display());
                    return Err(Failure::new(ErrorType::Internal, message));
                }
                lay(&layer, &part).map_err(fail)?;
            }
            settle(&part, &target).map_err(fail)
        })
        .await
    }

    /// Keeps a zip as it was uploaded.
    pub(crate) async fn keep_zip(&self, zip: Bytes, digest: &Digest) -> Result<(), Failure> {
        let target = self.zip(digest);
        blocking(move || {
            let fail = |error: io::Error| failed("keep a zip in", &target, &error);
            if target.is_file() {
                return Ok(());
            }
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder).map_err(fail)?;
            }
            let part = target.with_extension("part");
            fs::write(&part, &zip).map_err(fail)?;
            fs::rename(&part, &target).map_err(fail)
        })
        .await
    }

    /// A zip as it was uploaded, if it is there.
    pub(crate) async fn zip_of(&self, digest: &Digest) -> Option<Vec<u8>> {
        tokio::fs::read(self.zip(digest)).await.ok()
    }

    /// Removes a zip that nobody names any more.
    pub(crate) async fn drop_zip(&self, digest: &Digest) {
        // What stays behind takes room and does no harm.
        let _ = tokio::fs::remove_file(self.zip(digest)).await;
    }
}

/// What Python writes beside the code that it runs.
const WRITTEN: &str = "__pycache__";

/// A folder's files as a zip. If they are those of a bundle, what came to them since is left out.
pub(crate) async fn zipped(dir: PathBuf, bundle: Option<Digest>) -> Result<Vec<u8>, Failure> {
    blocking(move || {
        let cannot = |why: String| {
            let message = format!("cannot make a zip of {}: {why}", dir.display());
            Failure::new(ErrorType::Internal, message)
        };
        let mut manifest = build::manifest_of(&dir).map_err(|error| cannot(error.to_string()))?;
        if bundle.is_some_and(|bundle| bundle != manifest.digest()) {
            let is_ours = |file: &&BundleFile| !file.path.split('/').any(|part| part == WRITTEN);
            let files = manifest.files().iter().filter(is_ours).cloned().collect();
            manifest = Manifest::new(files).map_err(|error| cannot(error.to_string()))?;
        }
        let mut zip = Cursor::new(Vec::new());
        build::pack_zip(&dir, &manifest, &mut zip).map_err(|error| cannot(error.to_string()))?;
        Ok(zip.into_inner())
    })
    .await
}

/// Copies a folder over another; what is there of the same name gives way.
fn lay(from: &Path, over: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = over.join(entry.file_name());
        let is_folder = entry.file_type()?.is_dir();
        if !(is_folder && target.is_dir()) {
            remove(&target)?;
        }
        if is_folder {
            fs::create_dir_all(&target)?;
            lay(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_layer_hides_what_a_lower_one_has() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("low/both", "low");
        put("low/python/a.py", "a");
        put("low/thing", "a file");
        put("high/both", "high");
        put("high/python/b.py", "b");
        put("high/thing/now", "a folder");
        let over = folder.path().join("over");
        fs::create_dir(&over).unwrap();
        for layer in ["low", "high"] {
            lay(&folder.path().join(layer), &over).unwrap();
        }
        for (path, text) in [
            ("both", "high"),
            ("python/a.py", "a"),
            ("python/b.py", "b"),
            ("thing/now", "a folder"),
        ] {
            assert_eq!(fs::read_to_string(over.join(path)).unwrap(), text, "{path}");
        }
    }
}
