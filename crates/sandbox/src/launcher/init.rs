//! Process 1 of the sandbox. It puts on the layers one after the other, starts the task, and reaps until the task ends;
//! its own end then kills whatever the task has left behind.

use super::filesystem::{self, Mounts};
use super::identity::{INSIDE_ID, Identity};
use super::outside::{Refusal, namespace_layers, refuse};
use super::{privileges, syscalls};
use crate::sys::{self, Side};
use crate::wire::{self, Report, Request};
use crate::{Enforced, Layer, TMP, WORKSPACE};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{Gid, Uid};
use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
const HOST_NAME: &[u8] = b"sandbox";

pub(super) struct Setup<'a> {
    pub(super) control: &'a OwnedFd,
    pub(super) request: &'a Request,
    pub(super) input: Option<OwnedFd>,
    pub(super) identity: Identity,
    pub(super) mounts: Mounts,
    /// The launcher, for the handshake.
    pub(super) launcher: OwnedFd,
}

pub(super) fn run(setup: Setup<'_>) -> ! {
    let control = setup.control.as_fd();
    match confine_and_start(setup) {
        Ok(task) => reap_until_end_of(task, control),
        Err(refusal) => {
            // A caller that cannot be told is gone.
            wire::send(control, &refusal, None).ok();
            sys::exit_now(1)
        }
    }
}

fn confine_and_start(setup: Setup<'_>) -> Result<i32, Refusal> {
    let Setup { control, request, input, identity, mounts, launcher } = setup;
    let mut layers: Vec<Layer> = namespace_layers().collect();
    settle_identity(&launcher, &identity)?;
    layers.extend([Layer::UnprivilegedUser, Layer::DiesWithCaller]);
    rustix::system::sethostname(HOST_NAME).map_err(refuse(Layer::UtsNamespace, "name the host"))?;
    let mounts = filesystem::build(request, mounts)?;
    layers.extend([Layer::PivotRoot, Layer::PrivateProc]);
    let input = match input {
        Some(input) => input,
        None => rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(refuse(Layer::DescriptorsClosed, "open /dev/null"))?,
    };
    rustix::stdio::dup2_stdin(&input).map_err(refuse(Layer::DescriptorsClosed, "set standard input"))?;
    privileges::forbid_new_privileges()?;
    privileges::drop_capabilities()?;
    let landlock_abi = privileges::restrict_by_landlock(request, &mounts)?;
    layers.extend([Layer::NoNewPrivileges, Layer::CapabilitiesDropped, Layer::Landlock]);
    let filter = syscalls::filter().map_err(refuse(Layer::Seccomp, "compile the filter"))?;
    let task = Task::prepare(request)?;
    privileges::forbid_core_files().map_err(refuse(Layer::ResourceLimits, "setrlimit"))?;
    // Init's memory holds the policy and paths of the host. The task's own is readable again once it has run `execve`.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(refuse(Layer::PrivateProc, "hide init"))?;
    // Init is held by it as well; what is left to do for either is on the list.
    syscalls::install(&filter)?;
    layers.push(Layer::Seccomp);
    // The numbers are closed below, under the feet of these values.
    std::mem::forget((launcher, input, mounts));
    match sys::clone_process(0).map_err(refuse(Layer::PidNamespace, "start the task"))? {
        Side::Child => {
            let enforced = Enforced { layers, landlock_abi, host_uid: identity.host_uid };
            task.run(control, request, enforced)
        }
        Side::Parent { child } => {
            // Without the pipes: their end must come with the task's.
            sys::close_all_from(0, Some(control.as_fd()))
                .map_err(refuse(Layer::DescriptorsClosed, "close init's descriptors"))?;
            Ok(child.as_raw_pid())
        }
    }
}

/// Takes on the mapped user, gives up the caller's groups, and makes sure not to outlive the launcher.
fn settle_identity(launcher: &OwnedFd, identity: &Identity) -> Result<(), Refusal> {
    let lost = |error: io::Error| refuse(Layer::DiesWithCaller, "shake hands with the launcher")(error);
    wire::await_peer(launcher).map_err(lost)?;
    let failed = |operation: &'static str| refuse(Layer::UnprivilegedUser, operation);
    // An ordinary user cannot give up groups and is refused; a root caller's sandbox must.
    match rustix::thread::set_thread_groups(&[]) {
        Ok(()) => {}
        Err(rustix::io::Errno::PERM) if !identity.privileged => {}
        Err(error) => return Err(failed("give up the groups")(error)),
    }
    let (uid, gid) = (Uid::from_raw(INSIDE_ID), Gid::from_raw(INSIDE_ID));
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed("set the group"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed("set the user"))?;
    // Only now: a change of user clears it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(refuse(Layer::DiesWithCaller, "arm the death signal"))?;
    wire::signal_peer(launcher).map_err(lost)?;
    wire::await_peer(launcher).map_err(lost)
}

fn reap_until_end_of(task: i32, control: rustix::fd::BorrowedFd<'_>) -> ! {
    loop {
        match sys::wait_any() {
            Ok((pid, wait_status, usage)) if pid == task => {
                wire::send(control, &Report::Ended { wait_status, usage }, None).ok();
                sys::exit_now(0)
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // No child is left, and the task's end was not seen: that cannot be reported as success.
            Err(_) => sys::exit_now(1),
        }
    }
}

/// All that `execve` needs, made ready before the filter is in place.
struct Task {
    program: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Task {
    fn prepare(request: &Request) -> Result<Self, Refusal> {
        let home = if request.workspace.is_some() { WORKSPACE } else { TMP };
        let cwd = request.cwd.as_ref().map_or(OsStr::new(home), |cwd| cwd.as_os_str());
        rustix::process::chdir(cwd).map_err(|error| Report::Invalid {
            reason: format!("cannot enter the working directory {}: {error}", Path::new(cwd).display()),
        })?;
        let env = environment(request, home);
        let program = find(request.program.as_os_str(), &env);
        let text = |text: &OsStr| {
            CString::new(text.as_bytes())
                .map_err(|_| Report::Invalid { reason: "an argument holds NUL".to_owned() })
        };
        let args = std::iter::once(&request.program).chain(&request.args);
        Ok(Self {
            program: text(program.as_os_str())?,
            args: args.map(|arg| text(arg.as_os_str())).collect::<Result<_, _>>()?,
            env: env
                .iter()
                .map(|(name, value)| text(OsStr::new(&format!("{name}={value}"))))
                .collect::<Result<_, _>>()?,
        })
    }

    fn run(&self, control: &OwnedFd, request: &Request, mut enforced: Enforced) -> ! {
        let report = match self.take_on_limits(control, request, &mut enforced) {
            Ok(()) => match wire::send(control.as_fd(), &Report::Enforced(enforced), None) {
                Ok(()) => {
                    let error = sys::execute(&self.program, &self.args, &self.env);
                    Report::Program { reason: error.to_string() }
                }
                // Unreported means unrun.
                Err(_) => sys::exit_now(1),
            },
            Err(refusal) => refusal,
        };
        wire::send(control.as_fd(), &report, None).ok();
        sys::exit_now(1)
    }

    fn take_on_limits(
        &self,
        control: &OwnedFd,
        request: &Request,
        enforced: &mut Enforced,
    ) -> Result<(), Refusal> {
        rustix::process::setsid().map_err(refuse(Layer::NewSession, "setsid"))?;
        sys::reset_signals().map_err(refuse(Layer::NewSession, "reset signals"))?;
        sys::close_all_from(3, Some(control.as_fd()))
            .map_err(refuse(Layer::DescriptorsClosed, "close descriptors"))?;
        privileges::set_limits(request).map_err(refuse(Layer::ResourceLimits, "setrlimit"))?;
        enforced.layers.extend([Layer::NewSession, Layer::DescriptorsClosed, Layer::ResourceLimits]);
        Ok(())
    }
}

/// The fixed variables, with the policy's over them.
fn environment(request: &Request, home: &str) -> Vec<(String, String)> {
    let fixed = [
        ("PATH", SEARCH_PATH),
        ("HOME", home),
        ("TMPDIR", TMP),
        ("LANG", "C.UTF-8"),
        ("TERM", "dumb"),
        ("USER", "sandbox"),
    ];
    let mut env: Vec<(String, String)> = fixed
        .into_iter()
        .filter(|(name, _)| !request.env.iter().any(|(other, _)| other == name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    env.extend(request.env.iter().cloned());
    env
}

/// Looks a bare name up as `execvp` would. What is not found is left as it is, for `execve` to say so.
fn find(program: &OsStr, env: &[(String, String)]) -> PathBuf {
    if program.as_bytes().contains(&b'/') {
        return program.into();
    }
    let path = env.iter().find(|(name, _)| name == "PATH").map_or(SEARCH_PATH, |(_, value)| value);
    path.split(':')
        .map(|folder| Path::new(folder).join(program))
        .find(|file| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok())
        .unwrap_or_else(|| program.into())
}
