//! System calls that no safe wrapper offers. Every `unsafe` of the crate is in this file.

use crate::Usage;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::io;
use std::ptr::null;

/// Both sides of a `fork` or `clone`.
pub(crate) enum Side {
    Parent { child: rustix::process::Pid },
    Child,
}

/// `clone(2)` without a new stack, that is a `fork` with namespaces. SIGCHLD tells the parent of the end.
///
/// Only for a process with one thread: the child continues with a copy of the caller's memory.
pub(crate) fn clone_process(namespaces: c_int) -> io::Result<Side> {
    let flags = c_long::from(namespaces | libc::SIGCHLD);
    // SAFETY: a null stack means copy-on-write of the caller's, as with fork; no pointer is passed. The caller has one
    // thread only, so no lock can be left held in the child.
    let answer = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match answer {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        pid => i32::try_from(pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .map(|child| Side::Parent { child })
            .ok_or_else(|| io::Error::other("clone returned an impossible process number")),
    }
}

/// Leaves a namespace of the given kind behind; only used to find out which one the kernel refuses.
pub(crate) fn unshare(namespace: c_int) -> io::Result<()> {
    // SAFETY: takes no pointer; the caller has one thread.
    check(unsafe { libc::unshare(namespace) })
}

/// Ends the process at once: no destructor, no exit handler of a library of the host binary.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: takes no pointer and does not return.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from `first` on, but `keep`.
pub(crate) fn close_all_from(first: RawFd, keep: Option<BorrowedFd<'_>>) -> io::Result<()> {
    match keep.map(|fd| fd.as_raw_fd()) {
        Some(keep) if keep >= first => {
            if keep > first {
                close_range(first, (keep - 1).unsigned_abs())?;
            }
            close_range(keep + 1, u32::MAX)
        }
        _ => close_range(first, u32::MAX),
    }
}

fn close_range(first: RawFd, last: u32) -> io::Result<()> {
    // SAFETY: takes no pointer. Descriptors owned by values of this process are closed too; callers leave by `exec` or
    // `_exit` or have none, so no value closes a number that was given out again.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, first.unsigned_abs(), last, 0) };
    check_long(answer)
}

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// Sets attributes on a mount and all below it and makes it private: what the host mounts later does not appear, and
/// the other way round. With `mapping`, owners are mapped as that user namespace says (Linux 5.12).
pub(crate) fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    set: u32,
    mapping: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: u64::from(set) | mapping.map_or(0, |_| MOUNT_ATTR_IDMAP),
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: mapping.map_or(0, |fd| u64::from(fd.as_raw_fd().unsigned_abs())),
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is a NUL-terminated literal; `attr` lives during the call and its true size is given.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    check_long(answer)
}

/// The Landlock ABI of the kernel; an error when it has none or it is switched off.
pub(crate) fn landlock_abi() -> io::Result<i32> {
    const VERSION: u32 = 1;
    // SAFETY: with this flag the kernel wants a null pointer and size 0, and only answers with a number.
    let answer = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, null::<u8>(), 0_usize, VERSION) };
    check_long(answer)?;
    i32::try_from(answer).map_err(io::Error::other)
}

/// Gives every signal its default action and unblocks all: both would be inherited by the program that is run.
pub(crate) fn reset_signals() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // SAFETY: SIG_DFL is a valid action. The numbers that the C library keeps for itself are refused, harmlessly.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero signal set is a valid, empty one.
    let empty: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set lives during the call; a null old set means that none is wanted.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut()) })
}

/// Waits for the end of any child.
pub(crate) fn wait_any() -> io::Result<(i32, c_int, Usage)> {
    let mut status: c_int = 0;
    // SAFETY: an all-zero rusage is a valid value.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live, writable values of the right type.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::__WALL, &raw mut used) };
    check(pid)?;
    let millis = |time: libc::timeval| {
        time.tv_sec.unsigned_abs().saturating_mul(1000) + time.tv_usec.unsigned_abs() / 1000
    };
    let usage = Usage {
        user_ms: millis(used.ru_utime),
        system_ms: millis(used.ru_stime),
        max_resident_bytes: used.ru_maxrss.unsigned_abs().saturating_mul(1024),
    };
    Ok((pid, status, usage))
}

/// A resource as `setrlimit` numbers it; the type differs between C libraries.
pub(crate) type Resource = libc::__rlimit_resource_t;

/// Sets the soft and hard limit of a resource, or leaves them at the present hard limit where that is lower: it cannot
/// be raised, and need not be.
pub(crate) fn set_limit(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live, writable value of the right type.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    limit.rlim_max = limit.rlim_max.min(hard);
    limit.rlim_cur = limit.rlim_max.min(soft);
    // SAFETY: the pointer is to a live value of the right type.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })
}

/// `execve(2)`; returns only when it fails.
pub(crate) fn execute(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |texts: &[CString]| -> Vec<*const c_char> {
        texts.iter().map(|text| text.as_ptr()).chain(std::iter::once(null())).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both lists end with a null pointer and point to NUL-terminated texts that outlive the call.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// A copy of a descriptor, at 3 or above, closed on `exec`.
pub(crate) fn duplicate(fd: impl AsFd) -> io::Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(io::Error::from)
}

fn check(answer: c_int) -> io::Result<()> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn check_long(answer: c_long) -> io::Result<()> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
