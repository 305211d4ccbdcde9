//! The real nginx in front of something, plain or with TLS, configured with the lines that our page shows.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::process::until;

/// What the page's configuration stands in: one process, its files in one folder, and little patience.
const AROUND: &str = "
daemon off;
master_process off;
pid FOLDER/pid;
error_log FOLDER/errors info;
events {}
http {
    access_log off;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
    proxy_read_timeout 3s;
    proxy_send_timeout 3s;
    SITE
}
";

/// An nginx that runs.
pub struct Proxy {
    folder: TempDir,
    child: Child,
    /// `127.0.0.1:PORT`
    pub address: String,
    is_tls: bool,
}

impl Proxy {
    /// nginx without TLS.
    pub fn plain(upstream: &str) -> Proxy {
        Proxy::start(upstream, false)
    }

    /// nginx with a certificate of an authority that nobody knows.
    pub fn tls(upstream: &str) -> Proxy {
        Proxy::start(upstream, true)
    }

    fn start(upstream: &str, is_tls: bool) -> Proxy {
        let folder = tempfile::tempdir().expect("a folder can be made");
        certify(folder.path());
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let site = site(upstream, port, is_tls, folder.path());
        let config = AROUND.replace("SITE", &site);
        let config = config.replace("FOLDER", folder.path().to_str().expect("a readable path"));
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config).expect("a file can be written");
        let mut child = Command::new(program())
            .arg("-c")
            .arg(&file)
            .arg("-p")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stderr(fs::File::create(folder.path().join("said")).expect("a file can be made"))
            .spawn()
            .expect("nginx is installed: scripts/test brings it");
        until("nginx listens", || {
            let ended = child.try_wait().expect("nginx is our child");
            let said = || fs::read_to_string(folder.path().join("said"));
            assert_eq!(ended, None, "nginx ended: {:?}", said());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Proxy {
            address: format!("127.0.0.1:{port}"),
            folder,
            child,
            is_tls,
        }
    }

    /// The channel behind it, as a wrapper is told.
    pub fn channel(&self) -> String {
        let scheme = if self.is_tls { "wss" } else { "ws" };
        format!("{scheme}://{}", self.address)
    }

    /// The certificate of its authority.
    pub fn authority(&self) -> String {
        let file = self.folder.path().join("ca.pem");
        file.to_string_lossy().into_owned()
    }

    /// What it complained of.
    pub fn errors(&self) -> String {
        fs::read_to_string(self.folder.path().join("errors")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian keeps it where only root looks.
fn program() -> PathBuf {
    let debian = PathBuf::from("/usr/sbin/nginx");
    if debian.exists() {
        debian
    } else {
        "nginx".into()
    }
}

/// The configuration of `docs/relay.md`, with our addresses and files in the place of its own.
fn site(upstream: &str, port: u16, is_tls: bool, folder: &Path) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/relay.md");
    let page = fs::read_to_string(path).expect("the page is there");
    let block = page.split("```nginx\n").nth(1);
    let block = block.and_then(|block| block.split("```").next());
    let mut site = block.expect("the page shows nginx").to_owned();
    let mut put = |theirs: &str, ours: &str| {
        assert!(site.contains(theirs), "no {theirs:?} in {site}");
        site = site.replace(theirs, ours);
    };
    let listen = if is_tls { " ssl" } else { "" };
    put(
        "listen 443 ssl;",
        &format!("listen 127.0.0.1:{port}{listen};"),
    );
    put("127.0.0.1:24193", upstream);
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    put("/etc/ssl/live.example.com.pem", &file("leaf.pem"));
    put("/etc/ssl/live.example.com.key", &file("leaf.key"));
    site
}

/// Makes an authority, and a certificate for this machine.
fn certify(folder: &Path) {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let authority = [
        "-subj",
        "/CN=nobody knows",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    ];
    openssl(folder, &[&key[..], &authority].concat());
    let leaf = [
        "-subj",
        "/CN=localhost",
        "-keyout",
        "leaf.key",
        "-out",
        "leaf.pem",
    ];
    let signed = ["-CA", "ca.pem", "-CAkey", "ca.key"];
    let names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
    let names = [
        "-addext",
        names,
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ];
    openssl(folder, &[&key[..], &leaf, &signed, &names].concat());
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "2"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("openssl is installed: scripts/test brings it");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {complaint}"
    );
}
