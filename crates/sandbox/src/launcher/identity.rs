//! Which user the sandbox is, for the kernel and inside.
//!
//! An ordinary caller's sandbox is the caller for the kernel. A root caller's is not: the kernel does not apply
//! `RLIMIT_NPROC` to root, and root owns most of `/proc/sys`. It gets a number that no account has, different for each
//! live sandbox, and an id-mapped mount (Linux 5.12) lets it work in the caller's folders.

use super::outside::{Refusal, refuse};
use crate::Layer;
use crate::sys::{self, Side};
use crate::wire;
use rustix::fd::OwnedFd;
use rustix::process::{Pid, WaitOptions};
use std::io;

/// The user and group inside. Not 0: `tar` and others change their ways for root.
pub(super) const INSIDE_ID: u32 = 1000;
/// Above the accounts and sub-id ranges in use; the launcher's process number (at most 2^22) is added.
const UNASSIGNED_BASE: u32 = 0x7000_0000;

#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    /// For the kernel.
    pub(super) host_uid: u32,
    pub(super) host_gid: u32,
    /// The caller is root of the whole machine, so that the sandbox must become someone else.
    pub(super) privileged: bool,
}

impl Identity {
    pub(super) fn choose() -> Result<Self, Refusal> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        if uid != 0 {
            return Ok(Self { host_uid: uid, host_gid: gid, privileged: false });
        }
        let map = std::fs::read_to_string("/proc/self/uid_map")
            .map_err(refuse(Layer::UserNamespace, "read /proc/self/uid_map"))?;
        if map.split_ascii_whitespace().eq(["0", "0", "4294967295"]) {
            let id = UNASSIGNED_BASE + std::process::id();
            Ok(Self { host_uid: id, host_gid: id, privileged: true })
        } else {
            // Root of a user namespace only: for the kernel an ordinary user.
            Ok(Self { host_uid: uid, host_gid: gid, privileged: false })
        }
    }
}

/// One user and one group on either side of a user namespace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mapping {
    inside: (u32, u32),
    outside: (u32, u32),
}

impl Mapping {
    pub(super) fn of_sandbox(identity: &Identity) -> Self {
        Self { inside: (INSIDE_ID, INSIDE_ID), outside: (identity.host_uid, identity.host_gid) }
    }

    /// Writes the maps of the namespace that `process` has just made.
    pub(super) fn write(&self, process: Pid, privileged: bool) -> io::Result<()> {
        let folder = format!("/proc/{}", process.as_raw_pid());
        if !privileged {
            // Without privilege a group may be mapped only when groups can no longer be given up: they may deny access.
            std::fs::write(format!("{folder}/setgroups"), "deny")?;
        }
        std::fs::write(format!("{folder}/gid_map"), format!("{} {} 1", self.inside.1, self.outside.1))?;
        std::fs::write(format!("{folder}/uid_map"), format!("{} {} 1", self.inside.0, self.outside.0))
    }
}

/// A user namespace that stands for "what `owner` owns on disk belongs to the sandbox". For root callers only.
pub(super) fn owner_namespace(identity: &Identity, owner: (u32, u32)) -> io::Result<OwnedFd> {
    let (near, far) = wire::socket_pair()?;
    let child = match sys::clone_process(libc::CLONE_NEWUSER)? {
        Side::Parent { child } => child,
        Side::Child => {
            // Exists for its namespace only; ends when the other end closes, be it by the launcher's death.
            drop(near);
            wire::await_peer(&far).ok();
            sys::exit_now(0)
        }
    };
    let mapping = Mapping { inside: owner, outside: (identity.host_uid, identity.host_gid) };
    let namespace = mapping
        .write(child, true)
        .and_then(|()| std::fs::File::open(format!("/proc/{}/ns/user", child.as_raw_pid())));
    drop((near, far));
    rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(child), WaitOptions::empty()))?;
    namespace.map(OwnedFd::from)
}
