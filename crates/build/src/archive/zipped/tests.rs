//! Zips that travel well, and zips that try to do harm.

use std::{fs, io::Cursor};

use model::ByteSize;

use super::*;
use crate::files::manifest_of;

fn unpacked(bytes: &[u8], limits: &Limits) -> (tempfile::TempDir, Result<Manifest, UnpackError>) {
    let outer = tempfile::tempdir().unwrap();
    let dest = outer.path().join("bundle");
    fs::create_dir(&dest).unwrap();
    let unpacked = unpack_zip(Cursor::new(bytes), &dest, limits);
    let beside = fs::read_dir(outer.path()).unwrap().count();
    assert_eq!(beside, 1, "something was written beside the bundle");
    (outer, unpacked)
}

/// A zip of files with their modes; a link's target is its content.
fn zip_of(files: &[(&str, &str, u32)]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, text, mode) in files {
        let options = SimpleFileOptions::default().unix_permissions(mode & 0o777);
        if mode & KIND == LINK {
            archive.add_symlink(*path, *text, options).unwrap();
        } else {
            archive.start_file(*path, options).unwrap();
            archive.write_all(text.as_bytes()).unwrap();
        }
    }
    archive.finish().unwrap().into_inner()
}

fn refused(bytes: &[u8], limits: &Limits) -> String {
    unpacked(bytes, limits).1.unwrap_err().to_string()
}

#[test]
fn what_is_packed_as_a_zip_comes_out_again() {
    let files = [("bootstrap", "#!/bin/sh", 0o755), ("src/a.js", "1", 0o644)];
    let (outer, manifest) = unpacked(&zip_of(&files), &Limits::default());
    let manifest = manifest.unwrap();
    let dir = outer.path().join("bundle");
    assert_eq!(manifest, manifest_of(&dir).unwrap());
    assert!(manifest.files()[0].executable && !manifest.files()[1].executable);
    let pack_it = || {
        let mut bytes = Cursor::new(Vec::new());
        pack_zip(&dir, &manifest, &mut bytes).unwrap();
        bytes.into_inner()
    };
    let bytes = pack_it();
    assert_eq!(bytes, pack_it(), "packing twice gives the same bytes");
    let (_outer, again) = unpacked(&bytes, &Limits::default());
    assert_eq!(again.unwrap(), manifest);
}

#[test]
fn paths_and_kinds_that_no_bundle_has_are_refused() {
    let limits = Limits::default();
    for (path, mode, word) in [
        ("../x", 0o644, "leaves it"),
        ("/etc/passwd", 0o644, "leaves it"),
        ("a\\b", 0o644, "leaves it"),
        ("link", LINK | 0o777, "a symbolic link"),
    ] {
        let said = refused(&zip_of(&[(path, "x", mode)]), &limits);
        assert!(said.contains(word), "{path}: {said}");
    }
    let twice = refused(&zip_of(&[("a", "x", 0o644), ("a/b", "x", 0o644)]), &limits);
    assert!(twice.contains("twice"), "{twice}");
    assert!(refused(b"PK\x03\x04 and nothing more", &limits).contains("no zip"));
    assert!(refused(b"", &limits).contains("no zip"));
}

#[test]
fn a_bomb_is_stopped_by_what_it_says_and_by_what_it_holds() {
    let limits = Limits {
        bundle_unpacked: ByteSize(1 << 20),
        bundle_files: 3,
        ..Limits::default()
    };
    let zeros = "0".repeat(2 << 20);
    let bomb = zip_of(&[("a", &zeros, 0o644)]);
    assert!(bomb.len() < 10_000);
    assert!(refused(&bomb, &limits).contains("bundle_unpacked"));
    // The same, but it says that it holds eight bytes.
    let size = u32::try_from(zeros.len()).unwrap().to_le_bytes();
    let mut liar = bomb.clone();
    let places = bomb.windows(4).enumerate();
    for (at, _) in places.filter(|(_, bytes)| *bytes == size) {
        liar[at..at + 4].copy_from_slice(&8_u32.to_le_bytes());
    }
    assert_ne!(liar, bomb);
    assert!(refused(&liar, &limits).contains("no zip"));
    let names: Vec<String> = (0..7).map(|number| format!("f{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| (&**name, "", 0o644)).collect();
    assert!(refused(&zip_of(&many[..4]), &limits).contains("bundle_files"));
    // Those that are too many are counted before the first of them is written.
    let dest = tempfile::tempdir().unwrap();
    unpack_zip(Cursor::new(zip_of(&many[..4])), dest.path(), &limits).unwrap_err();
    assert_eq!(fs::read_dir(dest.path()).unwrap().count(), 0);
    // Refused by the record at its end alone.
    let said = refused(&zip_of(&many), &limits);
    assert!(said.contains("bundle_files"), "{said}");
}

#[test]
fn a_checksum_that_does_not_fit_is_seen() {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    archive.start_file("a", options).unwrap();
    archive.write_all(b"what was written").unwrap();
    let mut bytes = archive.finish().unwrap().into_inner();
    let at = bytes.windows(4).position(|part| part == b"what").unwrap();
    bytes[at] = b'W';
    assert!(refused(&bytes, &Limits::default()).contains("no zip"));
}
