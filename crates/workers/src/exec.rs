//! The last step of a start: the program as the kernel starts it. The C library would hand what the kernel refuses to a shell.

use std::{
    ffi::{CString, OsStr, c_char},
    io,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    process::Command,
};

/// Starts `command` by the kernel alone. It has its whole environment and its program's path already; nothing may be done
/// between fork and exec behind this.
pub fn by_the_kernel(command: &mut Command) -> io::Result<()> {
    let program = text(command.get_program())?;
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = Block::of(words.map(text).collect::<io::Result<_>>()?);
    let pairs = command.get_envs();
    let pairs = pairs.filter_map(|(name, value)| Some([name, OsStr::new("="), value?]));
    let pairs = pairs.map(|pair| text(&pair.into_iter().collect::<std::ffi::OsString>()));
    let environment = Block::of(pairs.collect::<io::Result<_>>()?);
    let exec = move || {
        // SAFETY: the path and both blocks end with a NUL, and live for as long as this closure.
        #[expect(unsafe_code, reason = "the standard library goes by the C library")]
        unsafe {
            libc::execve(program.as_ptr(), words.start(), environment.start());
        }
        Err(io::Error::last_os_error())
    };
    // SAFETY: the closure makes one plain system call on what was prepared before, and allocates nothing.
    #[expect(unsafe_code, reason = "there is no other place between fork and exec")]
    unsafe {
        command.pre_exec(exec);
    }
    Ok(())
}

fn text(value: &OsStr) -> io::Result<CString> {
    Ok(CString::new(value.as_bytes())?)
}

/// Texts as C has them: pointers, the last of which is null.
struct Block {
    pointers: Vec<*const c_char>,
    _texts: Vec<CString>,
}

// SAFETY: the pointers lead into the texts beside them, which nobody changes.
#[expect(
    unsafe_code,
    reason = "the compiler cannot know whose pointers these are"
)]
unsafe impl Send for Block {}

// SAFETY: as above.
#[expect(
    unsafe_code,
    reason = "the compiler cannot know whose pointers these are"
)]
unsafe impl Sync for Block {}

impl Block {
    fn of(texts: Vec<CString>) -> Block {
        let pointers = texts.iter().map(|text| text.as_ptr());
        Block {
            pointers: pointers.chain([std::ptr::null()]).collect(),
            _texts: texts,
        }
    }

    fn start(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}
