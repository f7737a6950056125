//! The confining side. It runs in a process of its own, which the caller starts for each command.

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod filesystem;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod identity;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod init;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod outside;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod privileges;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod syscalls;

use std::ffi::OsStr;

/// The first argument that turns the binary into the launcher.
pub const ARGUMENT: &str = "__confine";

/// Becomes the launcher if the first argument says so, and then never returns. Call it before anything else in `main`:
/// before threads, arguments, settings and logs.
///
/// Started by hand it finds no caller on its standard input and exits with code 2.
pub fn run_if_requested() {
    if std::env::args_os().nth(1).as_deref() == Some(OsStr::new(ARGUMENT)) {
        become_launcher();
    }
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn become_launcher() -> ! {
    outside::launch()
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn become_launcher() -> ! {
    std::process::exit(2)
}
