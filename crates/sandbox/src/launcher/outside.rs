//! The launcher proper: makes the namespaces, maps the user, waits for the end, and ends the tree when the caller says
//! so or dies.

use super::identity::{Identity, Mapping};
use super::{filesystem, init};
use crate::Layer;
use crate::sys::{self, Side};
use crate::wire::{self, Report, Request};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use std::fmt::Display;
use std::io;

/// Why the command is not run.
pub(super) type Refusal = Report;

/// Says which layer could not be had, and in which operation.
pub(super) fn refuse<E: Display>(layer: Layer, operation: impl Display) -> impl FnOnce(E) -> Refusal {
    move |error| Report::Refused { layer, reason: format!("{operation}: {error}") }
}

/// The namespaces of the sandbox, each with its layer.
const NAMESPACES: [(libc::c_int, Layer); 7] = [
    (libc::CLONE_NEWUSER, Layer::UserNamespace),
    (libc::CLONE_NEWPID, Layer::PidNamespace),
    (libc::CLONE_NEWIPC, Layer::IpcNamespace),
    (libc::CLONE_NEWUTS, Layer::UtsNamespace),
    (libc::CLONE_NEWNS, Layer::MountNamespace),
    (libc::CLONE_NEWNET, Layer::NetworkNamespace),
    (libc::CLONE_NEWCGROUP, Layer::CgroupNamespace),
];

pub(super) fn namespace_layers() -> impl Iterator<Item = Layer> {
    NAMESPACES.into_iter().map(|(_, layer)| layer)
}

/// Exit code of a launcher that was not started by [`run`](crate::run).
const NOT_CALLED: i32 = 2;

pub(super) fn launch() -> ! {
    // First of all, so that no window is left in which the caller's death goes unnoticed; the check of its process
    // number below closes the one before this line.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).ok();
    let received = sys::duplicate(rustix::stdio::stdin()).and_then(|control| {
        sys::close_all_from(3, Some(control.as_fd()))?;
        let (request, input) = wire::receive_request(control.as_fd())?;
        Ok((control, request, input))
    });
    let Ok((control, request, input)) = received else {
        const HINT: &[u8] =
            b"this argument is for the sandbox's own use: there is no policy on standard input\n";
        rustix::io::write(rustix::stdio::stderr(), HINT).ok();
        sys::exit_now(NOT_CALLED)
    };
    if rustix::process::getppid().map(Pid::as_raw_pid) != Some(request.caller_pid) {
        sys::exit_now(NOT_CALLED);
    }
    if let Err(refusal) = confine(&control, &request, input) {
        // When the caller cannot be told it is gone, and nobody waits for an answer.
        wire::send(control.as_fd(), &refusal, None).ok();
        sys::exit_now(1);
    }
    sys::exit_now(0)
}

fn confine(control: &OwnedFd, request: &Request, input: Option<OwnedFd>) -> Result<(), Refusal> {
    prefer_as_victim();
    let identity = Identity::choose()?;
    let mounts = filesystem::Mounts::collect_outside(request, &identity)?;
    let (near, far) = wire::socket_pair().map_err(refuse(Layer::DiesWithCaller, "make a socket pair"))?;
    let flags = NAMESPACES.into_iter().fold(0, |flags, (flag, _)| flags | flag);
    let child = match sys::clone_process(flags) {
        Ok(Side::Parent { child }) => child,
        Ok(Side::Child) => {
            drop(near);
            init::run(init::Setup { control, request, input, identity, mounts, launcher: far })
        }
        Err(error) => return Err(blame_namespace(&error)),
    };
    drop((far, input, mounts));
    let result = supervise(control.as_fd(), child, &identity, &near);
    if result.is_err() {
        kill_and_reap(child);
    }
    result
}

/// Under memory pressure the kernel should take the sandbox, not its neighbours. Raising the score is always allowed.
fn prefer_as_victim() {
    std::fs::write("/proc/self/oom_score_adj", "1000").ok();
}

/// Finds out which of the namespaces is the one that is refused, since `clone` does not say.
fn blame_namespace(error: &io::Error) -> Refusal {
    for (flag, layer) in NAMESPACES {
        if let Err(error) = sys::unshare(flag) {
            let hint = if layer == Layer::UserNamespace { user_namespace_hint() } else { "" };
            return Report::Refused { layer, reason: format!("unshare: {error}{hint}") };
        }
    }
    Report::Refused { layer: Layer::UserNamespace, reason: format!("clone: {error}") }
}

/// What a person can do about the refusals that distributions are known for.
fn user_namespace_hint() -> &'static str {
    let is = |path: &str, value: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "; allow it with: sysctl kernel.unprivileged_userns_clone=1"
    } else if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "; allow it with: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    } else if is("/proc/sys/user/max_user_namespaces", "0") {
        "; allow it with: sysctl user.max_user_namespaces=10000"
    } else {
        ""
    }
}

fn supervise(
    control: BorrowedFd<'_>,
    child: Pid,
    identity: &Identity,
    peer: &OwnedFd,
) -> Result<(), Refusal> {
    Mapping::of_sandbox(identity)
        .write(child, identity.privileged)
        .map_err(refuse(Layer::UserNamespace, "map the user"))?;
    let process = rustix::process::pidfd_open(child, PidfdFlags::empty())
        .map_err(refuse(Layer::DiesWithCaller, "open init's process descriptor"))?;
    // First answer: mapped. Then init arms its death signal and says so; only a launcher that is alive after that
    // gives the second answer, so init cannot miss the launcher's death.
    // When this fails init is on its way out, and must be left the time to say why.
    wire::signal_peer(peer).and_then(|()| wire::await_peer(peer)).and_then(|()| wire::signal_peer(peer)).ok();
    let mut events = [PollFd::new(&process, PollFlags::IN), PollFd::from_borrowed_fd(control, PollFlags::IN)];
    // Nothing more is ever sent to the launcher: readable means that the caller closed its half or is dead. When
    // waiting fails, the tree is killed rather than left alone.
    rustix::io::retry_on_intr(|| poll(&mut events, None)).ok();
    // Init's end is the end of all: the kernel kills the rest and reports init only when they are gone.
    kill_and_reap(child);
    Ok(())
}

/// Killing an init that has already ended is harmless, since nobody has reaped it yet.
fn kill_and_reap(child: Pid) {
    rustix::process::kill_process(child, Signal::KILL).ok();
    rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(child), WaitOptions::empty())).ok();
}
