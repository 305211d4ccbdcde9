//! Bundles that travel well, and archives that try to do harm.

use std::fs;

use super::*;
use crate::files::manifest_of;

/// A tar.zst of hand-made entries: kind, path, link target or content.
fn archive(entries: &[(EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    for (kind, path, content) in entries {
        let mut header = Header::new_gnu();
        // Straight into the header: the library refuses to write such paths.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if is_link {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content);
        }
        let content: &[u8] = if is_link { b"" } else { content };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn unpack_bytes(
    bytes: &[u8],
    limits: &Limits,
) -> (tempfile::TempDir, Result<Manifest, UnpackError>) {
    let outer = tempfile::tempdir().unwrap();
    let dest = outer.path().join("bundle");
    fs::create_dir(&dest).unwrap();
    let unpacked = unpack(bytes, &dest, limits);
    (outer, unpacked)
}

fn refused(entries: &[(EntryType, &str, &[u8])]) -> String {
    let (outer, unpacked) = unpack_bytes(&archive(entries), &Limits::default());
    let outside = fs::read_dir(outer.path()).unwrap().count();
    assert_eq!(outside, 1, "something was written beside the bundle");
    unpacked.unwrap_err().to_string()
}

const FILE: EntryType = EntryType::Regular;

#[test]
fn what_is_packed_comes_out_again_with_the_same_digest() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{}/{}.js", "folder".repeat(20), "name".repeat(30));
    for (path, text) in [
        ("index.js", "export default 1"),
        ("src/é ü.js", ""),
        (long.as_str(), "deep"),
    ] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(
            dir.path().join("index.js"),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
    }
    let manifest = manifest_of(dir.path()).unwrap();
    let pack_it = || {
        let mut bytes = Vec::new();
        pack(dir.path(), &manifest, &mut bytes).unwrap();
        bytes
    };
    let bytes = pack_it();
    assert_eq!(bytes, pack_it(), "packing twice gives the same bytes");
    let (outer, unpacked) = unpack_bytes(&bytes, &Limits::default());
    let unpacked = unpacked.unwrap();
    assert_eq!(unpacked, manifest);
    assert_eq!(
        manifest_of(&outer.path().join("bundle")).unwrap().digest(),
        manifest.digest()
    );
}

#[test]
fn a_file_that_changed_is_not_packed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "one").unwrap();
    let manifest = manifest_of(dir.path()).unwrap();
    fs::write(dir.path().join("a"), "longer").unwrap();
    assert!(pack(dir.path(), &manifest, Vec::new()).is_err());
}

#[test]
fn archives_of_other_tools_are_read() {
    let pax = b"20 path=src/long.js\n";
    let (_outer, unpacked) = unpack_bytes(
        &archive(&[
            (EntryType::Directory, "./src/", b""),
            (EntryType::XHeader, "x", pax),
            (FILE, "short", b"1"),
            (FILE, "./index.js", b"2"),
        ]),
        &Limits::default(),
    );
    let paths: Vec<String> = unpacked
        .unwrap()
        .files()
        .iter()
        .map(|file| file.path.clone())
        .collect();
    assert_eq!(paths, ["index.js", "src/long.js"]);
}

#[test]
fn an_archive_that_climbs_out_is_refused() {
    for path in [
        "../x",
        "/tmp/x",
        "a/../../x",
        "a//b",
        "a\\b",
        "a/.",
        "",
        "..",
    ] {
        assert!(
            refused(&[(FILE, path, b"x")]).contains("leaves it"),
            "{path}"
        );
    }
    let pax = b"16 path=../x.js\n";
    let bad = refused(&[(EntryType::XHeader, "x", pax), (FILE, "a", b"")]);
    assert!(bad.contains("leaves it"), "{bad}");
    assert!(
        refused(&[(EntryType::GNULongName, "x", b"../x\0"), (FILE, "a", b"")])
            .contains("leaves it")
    );
    assert!(refused(&[(FILE, "a", b""), (FILE, "a", b"")]).contains("twice"));
}

#[test]
fn links_and_devices_are_refused() {
    for (kind, word) in [
        (EntryType::Symlink, "a symbolic link, `x`"),
        (EntryType::Link, "a hard link"),
        (EntryType::Char, "a device"),
        (EntryType::Block, "a device"),
        (EntryType::Fifo, "a pipe"),
        (EntryType::GNUSparse, "unknown kind"),
        (EntryType::GNULongLink, "unknown kind"),
    ] {
        let told = refused(&[(kind, "x", b"/etc/passwd"), (FILE, "x/y", b"")]);
        assert!(told.contains(word), "{told}");
    }
}

#[test]
fn limits_are_named_before_anything_large_is_written() {
    let limits = Limits {
        bundle_unpacked: ByteSize(1 << 20),
        bundle_files: 3,
        ..Limits::default()
    };
    let bomb = archive(&[(FILE, "a", b"small"), (FILE, "bomb", &vec![0; 8 << 20])]);
    assert!(bomb.len() < 4096, "{} bytes hold 8 MiB", bomb.len());
    let (outer, unpacked) = unpack_bytes(&bomb, &limits);
    let error = unpacked.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the bundle is larger than 1MB unpacked, the limit `bundle_unpacked`"
    );
    assert_eq!(error.error_type(), ErrorType::PayloadTooLarge);
    assert!(!outer.path().join("bundle/bomb").exists());

    let many = archive(&[
        (FILE, "a", b""),
        (FILE, "b", b""),
        (FILE, "c", b""),
        (FILE, "d", b""),
    ]);
    let error = unpack_bytes(&many, &limits).1.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the bundle holds more than 3 files, the limit `bundle_files`"
    );
    let folders: Vec<_> = (0..13)
        .map(|_| (EntryType::Directory, "d/", b"".as_slice()))
        .collect();
    assert!(matches!(
        unpack_bytes(&archive(&folders), &limits).1,
        Err(UnpackError::TooMany { .. })
    ));
    let header = archive(&[(EntryType::XHeader, "x", &vec![b'x'; 9 << 10])]);
    assert!(matches!(
        unpack_bytes(&header, &limits).1,
        Err(UnpackError::Corrupt(_))
    ));
}

#[test]
fn damage_is_noticed() {
    let good = archive(&[(FILE, "a", &vec![7; 100_000]), (FILE, "b", b"x")]);
    for bytes in [
        b"no archive".as_slice(),
        b"",
        &good[..good.len() / 2],
        &good[..good.len() - 6],
    ] {
        let error = unpack_bytes(bytes, &Limits::default()).1;
        assert!(
            matches!(error, Err(UnpackError::Corrupt(_))),
            "{} bytes: {error:?}",
            bytes.len()
        );
    }
}
