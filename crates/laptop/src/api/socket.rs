//! Unix sockets whose path is longer than the system's 107 bytes. The one file of the crate that differs between systems.

use std::{
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Longest path that the system takes for a socket, in bytes.
#[cfg(unix)]
const PATH_MAX: usize = 107;

/// A socket's path that fits, and what keeps it valid.
#[derive(Clone)]
pub(super) struct SocketPath {
    /// What to connect to.
    pub(super) path: PathBuf,
    /// Kept open while connections are made.
    _folder: Option<Arc<File>>,
}

impl fmt::Debug for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.path, f)
    }
}

impl SocketPath {
    /// The path itself where it fits, else one through its folder's descriptor.
    #[cfg(unix)]
    pub(super) fn of(path: &Path) -> io::Result<SocketPath> {
        use std::os::{fd::AsRawFd, unix::ffi::OsStrExt};

        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if path.as_os_str().as_bytes().len() <= PATH_MAX || !cfg!(target_os = "linux") {
            return Ok(SocketPath {
                path: path.to_owned(),
                _folder: None,
            });
        }
        let folder = File::open(folder)?;
        let short = format!("/proc/self/fd/{}", folder.as_raw_fd());
        Ok(SocketPath {
            path: Path::new(&short).join(name),
            _folder: Some(Arc::new(folder)),
        })
    }

    /// There are no Unix sockets here.
    #[cfg(not(unix))]
    pub(super) fn of(_path: &Path) -> io::Result<SocketPath> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The same builder, connecting here.
    #[cfg(unix)]
    pub(super) fn connect(&self, builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
        builder.unix_socket(self.path.as_path())
    }

    /// Never called: there is no such path here.
    #[cfg(not(unix))]
    pub(super) fn connect(&self, builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
        builder
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_deep_folder_is_reached_through_its_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let socket = SocketPath::of(&deep.join("b.sock")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket.path).unwrap();
        assert!(deep.join("b.sock").exists());
        let short = Path::new("/run/b.sock");
        assert_eq!(SocketPath::of(short).unwrap().path, short);
    }
}
