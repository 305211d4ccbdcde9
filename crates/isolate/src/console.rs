//! Control lines on descriptor 3, written whole before anything else goes on.

use std::{fs::File, io::Write, mem::ManuallyDrop, os::fd::FromRawFd};

use serde::Serialize;

/// The descriptor of control lines; see docs/protocol.md.
const CONTROL: i32 = 3;

#[derive(Serialize)]
struct Log<'a> {
    t: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    level: &'a str,
    text: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    info: bool,
}

/// Says that this child is sealed and waits for work.
pub fn ready() {
    write(b"{\"t\":\"ready\"}\n");
}

/// One log line. The method `info` is of the level that `log` has too, and says so.
pub fn line(id: Option<&str>, method: &str, text: &str) {
    let level = if method == "log" { "info" } else { method };
    if let Ok(mut line) = serde_json::to_vec(&Log {
        t: "log",
        id,
        level,
        text,
        info: method == "info",
    }) {
        line.push(b'\n');
        write(&line);
    }
}

fn write(line: &[u8]) {
    // SAFETY: the server maps descriptor 3 before this process starts, and nothing here ever closes it.
    #[expect(
        unsafe_code,
        reason = "a descriptor that is inherited has no owner to borrow from"
    )]
    let mut control = unsafe { ManuallyDrop::new(File::from_raw_fd(CONTROL)) };
    // Nobody reads any more: the server is gone, and this process is about to be.
    control.write_all(line).ok();
}
