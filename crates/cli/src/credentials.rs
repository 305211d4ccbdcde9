//! Tokens that `bungee login` keeps: one per server, in a file that only this user may read.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use laptop::api::Address;
use tempfile::NamedTempFile;

use crate::{
    exit::{Complaint, Exit},
    system,
};

/// The file's name in the user's configuration folder.
const FILE: &str = "tokens.json";

/// The tokens by server, as the file holds them.
#[derive(Debug)]
pub struct Credentials {
    path: PathBuf,
    tokens: BTreeMap<String, String>,
}

impl Credentials {
    /// Reads the file; one that is not there holds nothing.
    pub fn load() -> Result<Credentials, Complaint> {
        let Some(folder) = system::config_dir() else {
            let complaint = Complaint::new(Exit::Configuration, "no home folder is known");
            return Err(complaint.hint("set `HOME` or `XDG_CONFIG_HOME`"));
        };
        Credentials::read(folder.join(FILE))
    }

    fn read(path: PathBuf) -> Result<Credentials, Complaint> {
        let tokens = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| {
                let shown = path.display();
                Complaint::new(Exit::Configuration, format!("{shown} is not as it must be"))
                    .hint("remove it and use `bungee login` again")
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(failed("read", &path, &error)),
        };
        Ok(Credentials { path, tokens })
    }

    /// The token for a server, if one was kept.
    pub fn token(&self, server: &Address) -> Option<&str> {
        self.tokens.get(&server.to_string()).map(String::as_str)
    }

    /// Keeps a token, in the place of an older one.
    pub fn keep(&mut self, server: &Address, token: String) -> Result<(), Complaint> {
        self.tokens.insert(server.to_string(), token);
        self.write()
    }

    /// Forgets a server's token; `false` if there was none.
    pub fn forget(&mut self, server: &Address) -> Result<bool, Complaint> {
        if self.tokens.remove(&server.to_string()).is_none() {
            return Ok(false);
        }
        self.write()?;
        Ok(true)
    }

    /// Where it is kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a new file and renames it, so that a crash leaves the old one. New files are for their owner only.
    fn write(&self) -> Result<(), Complaint> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let written = fs::create_dir_all(folder)
            .and_then(|()| NamedTempFile::new_in(folder))
            .and_then(|mut file| {
                file.write_all(&serde_json::to_vec_pretty(&self.tokens)?)?;
                file.as_file().sync_all()?;
                file.persist(&self.path).map_err(|error| error.error)
            });
        written
            .map(drop)
            .map_err(|error| failed("write", &self.path, &error))
    }
}

fn failed(attempt: &str, path: &Path, error: &io::Error) -> Complaint {
    let message = format!("cannot {attempt} {}: {error}", path.display());
    Complaint::new(Exit::Configuration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_kept_per_server_and_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bungee").join(FILE);
        let server = |text: &str| text.parse::<Address>().unwrap();
        let mut kept = Credentials::read(path.clone()).unwrap();
        kept.keep(&server("http://a.example:9001/"), "one".into())
            .unwrap();
        kept.keep(&server("http://b.example"), "two".into())
            .unwrap();
        let mut kept = Credentials::read(path.clone()).unwrap();
        assert_eq!(kept.token(&server("http://a.example:9001")), Some("one"));
        assert_eq!(kept.token(&server("http://c.example")), None);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert!(kept.forget(&server("http://b.example")).unwrap());
        assert!(!kept.forget(&server("http://b.example")).unwrap());
        fs::write(&path, "{").unwrap();
        let complaint = Credentials::read(path).unwrap_err();
        assert_eq!(complaint.exit, Exit::Configuration);
    }
}
