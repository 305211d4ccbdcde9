//! Bundles on disk: uploaded and unpacked into `incoming/`, copied from there into the folder of each version.
//! Every step writes beside its target and renames, so that a crash leaves nothing half-done.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufReader, Cursor},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::body::Body;
use build::UnpackError;
use bytes::Bytes;
use http_body_util::BodyExt;
use model::{Digest, ErrorType, Failure, FunctionId, Limits, Manifest, VersionNumber};
use tokio::{io::AsyncWriteExt, task::spawn_blocking};

use crate::{api::body_failure, bodies::BodyLimit};

/// How long an upload lies in `incoming/` after it was last asked for: until its version is asked for, with patience.
const KEEP_INCOMING: Duration = Duration::from_secs(60);

/// The bundles below one data folder.
pub(crate) struct Bundles {
    data_dir: PathBuf,
    /// Makes names that no other upload of this process has.
    uploads: AtomicU64,
    /// What lies in `incoming/`.
    staged: Mutex<HashMap<Digest, Staged>>,
}

/// An upload that was unpacked.
struct Staged {
    /// When it was uploaded or asked for last.
    asked: Instant,
    /// Versions that are being made of it.
    users: usize,
}

/// Where a version lies.
pub(crate) struct Place {
    /// The unpacked bundle.
    pub dir: PathBuf,
    /// Where the compiled image of an isolate version is cached.
    pub image: PathBuf,
}

/// A bundle that is here.
pub(crate) struct Taken {
    pub files: u64,
    /// In bytes, unpacked.
    pub size: u64,
    /// Whether it was here before.
    pub was_known: bool,
}

impl Bundles {
    /// The bundles of a folder that nobody else uses. What an earlier process left half-done is removed.
    pub(crate) fn new(data_dir: PathBuf) -> Bundles {
        let bundles = Bundles {
            data_dir,
            uploads: AtomicU64::new(0),
            staged: Mutex::default(),
        };
        let incoming = bundles.incoming();
        if let Err(error) = remove(&incoming) {
            tracing::warn!(%error, "old uploads stay behind in {}", incoming.display());
        }
        bundles
    }

    /// Where a version lies, or will.
    pub(crate) fn place(&self, function: &FunctionId, number: VersionNumber) -> Place {
        let versions = self.versions(function);
        Place {
            dir: versions.join(number.to_string()),
            image: versions.join(format!("{number}.image")),
        }
    }

    fn versions(&self, function: &FunctionId) -> PathBuf {
        self.data_dir
            .join("bundles")
            .join(function.project.as_str())
            .join(function.name.as_str())
    }

    fn incoming(&self) -> PathBuf {
        self.data_dir.join("incoming")
    }

    pub(crate) fn unpacked(&self, digest: &Digest) -> PathBuf {
        self.incoming().join(digest.hex())
    }

    /// Whether the bundle can be made a version without an upload.
    pub(crate) async fn has(&self, digest: &Digest) -> bool {
        let found = tokio::fs::try_exists(self.unpacked(digest)).await;
        let is_here = found.unwrap_or(false);
        if is_here {
            self.change(*digest, |_| ());
        }
        is_here
    }

    /// Keeps an upload from being swept while a version is made of it.
    pub(crate) fn hold(&self, digest: Digest) -> Held<'_> {
        self.change(digest, |staged| staged.users += 1);
        Held {
            bundles: self,
            digest,
        }
    }

    /// Somebody asks for an upload.
    fn change(&self, digest: Digest, change: impl FnOnce(&mut Staged)) {
        let now = Instant::now();
        let mut staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = staged.entry(digest).or_insert(Staged {
            asked: now,
            users: 0,
        });
        entry.asked = now;
        change(entry);
    }

    /// Takes an upload: writes it down, unpacks it, and checks that it is what it says.
    pub(crate) async fn take(
        &self,
        digest: Digest,
        body: Body,
        limits: &Limits,
    ) -> Result<Taken, Failure> {
        let target = self.unpacked(&digest);
        if let Some(known) = self.known(&digest, target.clone()).await {
            return Ok(known);
        }
        let number = self.uploads.fetch_add(1, Ordering::Relaxed);
        let base = self.incoming().join(format!("{}.{number}", digest.hex()));
        let upload = Scrap(base.with_extension(format!("{number}.upload")));
        let part = Scrap(base.with_extension(format!("{number}.part")));
        self.receive(&upload.0, body, limits).await?;
        let limits = limits.clone();
        let taken = blocking(move || {
            let manifest = unpack(&upload.0, &part.0, digest, &limits)?;
            settle(&part.0, &target)
                .map_err(|error| failed("keep a bundle in", &target, &error))?;
            Ok(Taken {
                files: manifest.files().len() as u64,
                size: manifest.size(),
                was_known: false,
            })
        });
        let taken = taken.await?;
        self.change(digest, |_| ());
        Ok(taken)
    }

    /// Folders to build a bundle in, on the disk where bundles lie.
    pub(crate) async fn workshop(&self) -> Result<Workshop, Failure> {
        let number = self.uploads.fetch_add(1, Ordering::Relaxed);
        let workshop = Workshop::below(self.incoming().join(format!("{number}.building")));
        for folder in [workshop.source(), workshop.out()] {
            let made = tokio::fs::create_dir_all(folder).await;
            made.map_err(|error| failed("create", folder, &error))?;
        }
        Ok(workshop)
    }

    /// Takes a bundle that was built here, as if it had been uploaded.
    pub(crate) async fn take_built(
        &self,
        workshop: Workshop,
        digest: Digest,
    ) -> Result<(), Failure> {
        let target = self.unpacked(&digest);
        if self.known(&digest, target.clone()).await.is_some() {
            return Ok(());
        }
        blocking(move || {
            settle(workshop.out(), &target)
                .map_err(|error| failed("keep a bundle in", &target, &error))
        })
        .await?;
        self.change(digest, |_| ());
        Ok(())
    }

    /// Takes a zip: unpacks it, and answers with the digest of what was in it.
    pub(crate) async fn take_zip(
        &self,
        zip: Bytes,
        limits: &Limits,
    ) -> Result<Digest, UnpackError> {
        let number = self.uploads.fetch_add(1, Ordering::Relaxed);
        let part = Scrap(self.incoming().join(format!("zip.{number}.part")));
        let (incoming, limits) = (self.incoming(), limits.clone());
        let unpacked = spawn_blocking(move || {
            fs::create_dir_all(&part.0).map_err(|cause| UnpackError::Write {
                path: part.0.clone(),
                cause,
            })?;
            let manifest = build::unpack_zip(Cursor::new(zip), &part.0, &limits)?;
            let digest = manifest.digest();
            let path = incoming.join(digest.hex());
            settle(&part.0, &path).map_err(|cause| UnpackError::Write { path, cause })?;
            Ok::<_, UnpackError>(digest)
        });
        let digest = match unpacked.await {
            Ok(digest) => digest?,
            Err(error) => {
                let path = self.incoming();
                let cause = io::Error::other(error);
                return Err(UnpackError::Write { path, cause });
            }
        };
        self.change(digest, |_| ());
        Ok(digest)
    }

    /// Brings the bundle of a version to where versions are made from.
    pub(crate) async fn stage(&self, digest: &Digest, place: &Place) -> Result<(), Failure> {
        if self.has(digest).await {
            return Ok(());
        }
        let number = self.uploads.fetch_add(1, Ordering::Relaxed);
        let part = Scrap(self.incoming().join(format!("staged.{number}.part")));
        let (from, target) = (place.dir.clone(), self.unpacked(digest));
        let copied = blocking(move || {
            copy(&from, &part.0)
                .and_then(|()| settle(&part.0, &target))
                .map_err(|error| failed("copy the bundle in", &from, &error))
        });
        copied.await?;
        self.change(*digest, |_| ());
        Ok(())
    }

    /// What is known of a bundle that is here already; one that was damaged is taken away.
    async fn known(&self, digest: &Digest, target: PathBuf) -> Option<Taken> {
        if !self.has(digest).await {
            return None;
        }
        let digest = *digest;
        let looked = blocking(move || {
            let manifest = build::manifest_of(&target)
                .ok()
                .filter(|manifest| manifest.digest() == digest);
            if manifest.is_none() {
                remove(&target).map_err(|error| failed("clear", &target, &error))?;
            }
            Ok(manifest)
        });
        let manifest = looked.await.ok().flatten()?;
        Some(Taken {
            files: manifest.files().len() as u64,
            size: manifest.size(),
            was_known: true,
        })
    }

    async fn receive(&self, path: &Path, mut body: Body, limits: &Limits) -> Result<(), Failure> {
        let limit = BodyLimit::bundle(limits);
        let fail = |error| failed("write", path, &error);
        tokio::fs::create_dir_all(self.incoming())
            .await
            .map_err(fail)?;
        let mut file = tokio::fs::File::create(path).await.map_err(fail)?;
        let mut size = 0;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(body_failure)?.into_data() else {
                continue;
            };
            size += data.len() as u64;
            if size > limit.most.0 {
                return Err(limit.exceeded(size));
            }
            file.write_all(&data).await.map_err(fail)?;
        }
        file.flush().await.map_err(fail)
    }

    /// Puts a bundle into the folder of a version. What lay there belongs to no version and is removed first.
    pub(crate) async fn install(&self, digest: &Digest, place: &Place) -> Result<(), Failure> {
        let (from, dir, image) = (
            self.unpacked(digest),
            place.dir.clone(),
            place.image.clone(),
        );
        let digest = *digest;
        blocking(move || {
            let fail = |error: io::Error| failed("install a bundle in", &dir, &error);
            if !from.is_dir() {
                let message = format!("no bundle {digest} was uploaded");
                return Err(Failure::new(ErrorType::BadRequest, message)
                    .hint("PUT it to /v1/bundles first"));
            }
            let part = Scrap(dir.with_extension("part"));
            for stale in [&part.0, &dir, &image] {
                remove(stale).map_err(fail)?;
            }
            copy(&from, &part.0)
                .and_then(|()| settle(&part.0, &dir))
                .map_err(fail)
        })
        .await
    }

    /// Takes a version's folder away again.
    pub(crate) async fn uninstall(&self, place: Place) {
        let removed = blocking(move || {
            for path in [&place.dir, &place.image] {
                remove(path).map_err(|error| failed("remove", path, &error))?;
            }
            Ok(())
        });
        if let Err(failure) = removed.await {
            tracing::warn!(%failure, "a folder stays behind");
        }
    }

    /// Removes all that lies here of a deleted function. Its uploads are left to [`Bundles::sweep`]: another function
    /// may be about to be made of them.
    pub(crate) async fn remove(&self, function: &FunctionId) {
        let versions = self.versions(function);
        // Aside first: a removal that is broken off is finished by the next start.
        let number = self.uploads.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.{}.{number}.deleted", function.project, function.name);
        let (incoming, aside) = (self.incoming(), self.incoming().join(name));
        let removed = blocking(move || {
            let fail = |error: io::Error| failed("remove", &versions, &error);
            fs::create_dir_all(&incoming).map_err(fail)?;
            match fs::rename(&versions, &aside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
                Ok(()) | Err(_) => {}
            }
            remove(&aside).map_err(|error| failed("remove", &aside, &error))?;
            // The project's folder, if this was its last function; another function keeps it there.
            if let Some(project) = versions.parent() {
                let _ = fs::remove_dir(project);
            }
            Ok(())
        });
        if let Err(failure) = removed.await {
            tracing::warn!(%failure, "files of a deleted function stay behind");
        }
    }

    /// Removes uploads that became versions, or that nobody came back for.
    pub(crate) async fn sweep(&self, now: Instant) {
        let gone: Vec<PathBuf> = {
            let mut staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
            let is_old = |staged: &Staged| {
                staged.users == 0 && now.duration_since(staged.asked) > KEEP_INCOMING
            };
            let old = staged.extract_if(|_, staged| is_old(staged));
            old.map(|(digest, _)| self.unpacked(&digest)).collect()
        };
        if gone.is_empty() {
            return;
        }
        let swept = blocking(move || {
            for path in gone {
                remove(&path).map_err(|error| failed("remove", &path, &error))?;
            }
            Ok(())
        });
        if let Err(failure) = swept.await {
            tracing::warn!(%failure, "old uploads stay behind until the next start");
        }
    }
}

/// An upload that is in use, while this lives.
pub(crate) struct Held<'a> {
    bundles: &'a Bundles,
    digest: Digest,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.bundles.change(self.digest, |staged| staged.users -= 1);
    }
}

/// Two folders: one for sources, one for the bundle that is made of them. Both go when this is dropped.
pub(crate) struct Workshop {
    source: PathBuf,
    out: PathBuf,
    _all: Scrap,
}

impl Workshop {
    fn below(folder: PathBuf) -> Workshop {
        Workshop {
            source: folder.join("source"),
            out: folder.join("out"),
            _all: Scrap(folder),
        }
    }

    /// Where the sources go.
    pub(crate) fn source(&self) -> &Path {
        &self.source
    }

    /// Where the bundle is made.
    pub(crate) fn out(&self) -> &Path {
        &self.out
    }
}

/// A path of work in progress, removed when it is dropped.
struct Scrap(PathBuf);

impl Drop for Scrap {
    fn drop(&mut self) {
        // What cannot be removed now is swept at the next start.
        let _ = remove(&self.0);
    }
}

fn unpack(
    upload: &Path,
    part: &Path,
    digest: Digest,
    limits: &Limits,
) -> Result<Manifest, Failure> {
    let file = File::open(upload).map_err(|error| failed("read", upload, &error))?;
    fs::create_dir(part).map_err(|error| failed("create", part, &error))?;
    let manifest = build::unpack(BufReader::new(file), part, limits)
        .map_err(|error| Failure::new(error.error_type(), chain(&error)))?;
    let found = manifest.digest();
    if found != digest {
        let message = format!("the bundle's digest is {found}, and it was sent as {digest}");
        return Err(Failure::new(ErrorType::BadRequest, message));
    }
    Ok(manifest)
}

/// Renames a finished folder to where it belongs, for good. One that is there already is the same.
pub(crate) fn settle(part: &Path, target: &Path) -> io::Result<()> {
    match fs::rename(part, target) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
        renamed => renamed?,
    }
    match target.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Copies a folder of plain files, and brings everything to the disk.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            File::open(&target)?.sync_all()?;
        }
    }
    File::open(to)?.sync_all()
}

/// Removes a file or folder, if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Work with files, away from the threads that serve.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Failure::new(
            ErrorType::Internal,
            format!("the work broke off: {error}"),
        )),
    }
}

pub(crate) fn failed(attempt: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        ErrorType::Internal,
        format!("cannot {attempt} {}: {error}", path.display()),
    )
}

/// An error and what lies underneath, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn uploads_go_once_nobody_asks_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let incoming = folder.path().join("incoming");
        fs::create_dir_all(incoming.join("left-behind")).unwrap();
        let bundles = Bundles::new(folder.path().to_owned());
        assert!(!incoming.exists());
        let digest = Digest::of(b"x");
        fs::create_dir_all(bundles.unpacked(&digest)).unwrap();
        assert!(bundles.has(&digest).await);
        let later = Instant::now() + KEEP_INCOMING + Duration::from_secs(1);
        bundles.sweep(Instant::now()).await;
        assert!(bundles.has(&digest).await);
        let held = bundles.hold(digest);
        bundles.sweep(later).await;
        assert!(bundles.has(&digest).await);
        drop(held);
        bundles.sweep(later + KEEP_INCOMING).await;
        assert!(!bundles.has(&digest).await);
    }

    #[tokio::test]
    async fn the_end_of_a_function_leaves_uploads_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let bundles = Bundles::new(folder.path().to_owned());
        let digest = Digest::of(b"x");
        fs::create_dir_all(bundles.unpacked(&digest)).unwrap();
        let function = |name: &str| FunctionId {
            project: "default".parse().unwrap(),
            name: name.parse().unwrap(),
        };
        let [old, new] =
            ["old", "new"].map(|name| bundles.place(&function(name), VersionNumber(1)));
        bundles.install(&digest, &old).await.unwrap();
        bundles.remove(&function("old")).await;
        assert!(!old.dir.exists());
        bundles.install(&digest, &new).await.unwrap();
        assert!(new.dir.is_dir());
    }
}
