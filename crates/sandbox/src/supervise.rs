//! The caller's side: starts the launcher, feeds and reads the command, and ends its tree when it must.

use crate::wire::{self, Frames, Report, Request};
use crate::{CancelToken, Command, Enforced, Launcher, Outcome, Policy, SandboxError, Status, Usage};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::Shutdown;
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the launcher may take to end a tree before it is killed itself (which ends the tree as well).
const KILL_GRACE: Duration = Duration::from_secs(5);
/// Multiple of `output_bytes` after which a command that floods its output is killed.
const FLOOD_FACTOR: u64 = 64;
/// Standard error of the launcher quoted when it failed.
const QUOTE_BYTES: usize = 400;

pub(crate) fn run(
    launcher: &Launcher,
    policy: &Policy,
    command: &Command,
    cancel: &CancelToken,
) -> Result<Outcome, SandboxError> {
    let mut session = Session::start(launcher, policy, command)?;
    let wake = Arc::new(
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(failed("make an event descriptor"))?,
    );
    let waker = Arc::clone(&wake);
    let watch = cancel.watch(move || {
        // A full counter is readable already, which is all that is wanted.
        rustix::io::write(&*waker, &1_u64.to_ne_bytes()).ok();
    });
    session.drive(wake.as_fd())?;
    drop(watch);
    session.finish(command)
}

fn failed<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> SandboxError {
    move |source| SandboxError::Io { operation, source: source.into() }
}

/// One stream of output, kept up to a limit.
struct Capture {
    pipe: Option<OwnedFd>,
    kept: Vec<u8>,
    seen: u64,
    limit: u64,
}

impl Capture {
    fn new(pipe: Option<impl Into<OwnedFd>>, limit: u64) -> Self {
        Self { pipe: pipe.map(Into::into), kept: Vec::new(), seen: 0, limit }
    }

    /// Reads once. True when there was something, or the end.
    fn read(&mut self, buffer: &mut [u8]) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        match rustix::io::read(pipe, &mut *buffer) {
            Ok(0) => self.pipe = None,
            Ok(count) => {
                let room = self.limit.saturating_sub(self.kept.len() as u64);
                let keep = usize::try_from(room).unwrap_or(usize::MAX).min(count);
                self.kept.extend_from_slice(buffer.get(..keep).unwrap_or_default());
                self.seen = self.seen.saturating_add(count as u64);
            }
            Err(Errno::AGAIN | Errno::INTR) => return false,
            Err(_) => self.pipe = None,
        }
        true
    }

    fn truncated(&self) -> bool {
        self.seen > self.kept.len() as u64
    }
}

/// What is left to write to standard input.
struct Feed {
    pipe: OwnedFd,
    bytes: Vec<u8>,
    written: usize,
}

struct Session {
    child: Child,
    control: OwnedFd,
    frames: Frames,
    reports: Vec<Report>,
    feed: Option<Feed>,
    stdout: Capture,
    stderr: Capture,
    started: Instant,
    deadline: Instant,
    flood: u64,
    killed: Option<(Status, Instant)>,
}

impl Session {
    fn start(launcher: &Launcher, policy: &Policy, command: &Command) -> Result<Self, SandboxError> {
        let started = Instant::now();
        let (control, far) = wire::socket_pair().map_err(failed("make a socket pair"))?;
        let input = if command.stdin.is_empty() {
            None
        } else {
            Some(pipe_with(PipeFlags::CLOEXEC).map_err(failed("make a pipe"))?)
        };
        let mut child = std::process::Command::new(&launcher.program)
            .args(&launcher.args)
            .env_clear()
            .process_group(0)
            .stdin(Stdio::from(far))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| SandboxError::Spawn { program: launcher.program.clone(), source })?;
        let limits = &policy.limits;
        let mut session = Self {
            stdout: Capture::new(child.stdout.take(), limits.output_bytes),
            stderr: Capture::new(child.stderr.take(), limits.output_bytes),
            control,
            frames: Frames::default(),
            reports: Vec::new(),
            feed: None,
            started,
            deadline: started + Duration::from_millis(limits.wall_ms),
            flood: limits.output_bytes.saturating_mul(FLOOD_FACTOR).max(1 << 20),
            killed: None,
            child,
        };
        for pipe in [&session.stdout.pipe, &session.stderr.pipe].into_iter().flatten() {
            set_nonblocking(pipe).map_err(failed("read from the launcher"))?;
        }
        let caller_pid = std::process::id().cast_signed();
        let request = Request::new(caller_pid, policy, command);
        let sent =
            wire::send(session.control.as_fd(), &request, input.as_ref().map(|(reader, _)| reader.as_fd()));
        if let Err(error) = sent
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(failed("send the policy to the launcher")(error));
        }
        set_nonblocking(&session.control).map_err(failed("prepare the launcher's socket"))?;
        if let Some((_, pipe)) = input {
            set_nonblocking(&pipe).map_err(failed("prepare standard input"))?;
            session.feed = Some(Feed { pipe, bytes: command.stdin.clone(), written: 0 });
        }
        Ok(session)
    }

    /// Moves bytes until the launcher's socket closes, which it does when the last process of the tree is dead.
    fn drive(&mut self, wake: BorrowedFd<'_>) -> Result<(), SandboxError> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let now = Instant::now();
            let until = match self.killed {
                None if now >= self.deadline => {
                    self.kill(Status::DeadlineExceeded);
                    continue;
                }
                None => self.deadline,
                Some((_, at)) if now >= at + KILL_GRACE => {
                    self.child.kill().map_err(failed("kill the launcher"))?;
                    return Ok(());
                }
                Some((_, at)) => at + KILL_GRACE,
            };
            let woken = self.wait(wake, until.saturating_duration_since(now))?;
            if woken && self.killed.is_none() {
                self.kill(Status::Cancelled);
            }
            self.write_input();
            self.stdout.read(&mut buffer);
            self.stderr.read(&mut buffer);
            if self.stdout.seen.max(self.stderr.seen) > self.flood && self.killed.is_none() {
                self.kill(Status::OutputExceeded);
            }
            if self.read_control(&mut buffer)? {
                // The tree is dead, so the pipes hold the rest and then end.
                while self.stdout.read(&mut buffer) {}
                while self.stderr.read(&mut buffer) {}
                return Ok(());
            }
        }
    }

    /// Waits for something to do; true when the command was cancelled.
    fn wait(&self, wake: BorrowedFd<'_>, timeout: Duration) -> Result<bool, SandboxError> {
        let mut events = Vec::with_capacity(5);
        events.push(PollFd::new(&self.control, PollFlags::IN));
        if self.killed.is_none() {
            events.push(PollFd::from_borrowed_fd(wake, PollFlags::IN));
        }
        for capture in [&self.stdout, &self.stderr] {
            events.extend(capture.pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        }
        events.extend(self.feed.as_ref().map(|feed| PollFd::new(&feed.pipe, PollFlags::OUT)));
        let timeout = Timespec::try_from(timeout).map_err(|error| failed("wait")(io::Error::other(error)))?;
        match poll(&mut events, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(failed("wait for the command")(error)),
        }
        Ok(self.killed.is_none() && events.get(1).is_some_and(|event| !event.revents().is_empty()))
    }

    /// Tells the launcher to kill the tree: it takes the closing of this half as the order.
    fn kill(&mut self, status: Status) {
        self.killed = Some((status, Instant::now()));
        self.feed = None;
        // It fails only if the launcher is gone already, and the tree with it.
        rustix::net::shutdown(&self.control, Shutdown::Write).ok();
    }

    fn write_input(&mut self) {
        let Some(feed) = &mut self.feed else { return };
        match rustix::io::write(&feed.pipe, feed.bytes.get(feed.written..).unwrap_or_default()) {
            Ok(count) => {
                feed.written += count;
                if feed.written >= feed.bytes.len() {
                    self.feed = None;
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The command does not want it; that is its business.
            Err(_) => self.feed = None,
        }
    }

    /// Takes in reports; true when the launcher has closed its end.
    fn read_control(&mut self, buffer: &mut [u8]) -> Result<bool, SandboxError> {
        loop {
            match rustix::io::read(&self.control, &mut *buffer) {
                Ok(0) | Err(Errno::CONNRESET) => return Ok(true),
                Ok(count) => self.frames.push(buffer.get(..count).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(failed("read the launcher's report")(error)),
            }
            while let Some(report) = self.frames.next().map_err(failed("understand the launcher's report"))? {
                self.reports.push(report);
            }
        }
    }

    fn finish(mut self, command: &Command) -> Result<Outcome, SandboxError> {
        let exit = self.child.wait().map_err(failed("wait for the launcher"))?;
        let mut enforced = Enforced::default();
        let mut ended = None;
        for report in std::mem::take(&mut self.reports) {
            match report {
                Report::Enforced(layers) => enforced = layers,
                Report::Ended { wait_status, usage } => ended = Some((wait_status, usage)),
                Report::Refused { layer, reason } => {
                    return Err(SandboxError::LayerUnavailable { layer, reason });
                }
                Report::Invalid { reason } => return Err(SandboxError::InvalidPolicy { reason }),
                Report::Program { reason } => {
                    return Err(SandboxError::Program { program: command.program.clone(), reason });
                }
            }
        }
        let (status, usage) = match (ended, self.killed) {
            (Some((wait_status, usage)), _) => (decode(wait_status), usage),
            (None, Some((status, _))) => (status, Usage::default()),
            (None, None) => {
                let quote = self.stderr.kept.get(..QUOTE_BYTES).unwrap_or(&self.stderr.kept);
                let reason = format!("{exit}: {}", String::from_utf8_lossy(quote).trim());
                return Err(SandboxError::LauncherFailed { reason });
            }
        };
        if let (Some(layer), Some(_)) = (enforced.missing(), ended) {
            let reason =
                "the launcher did not report it: it failed on the way, or is of another version".to_owned();
            return Err(SandboxError::LayerUnavailable { layer, reason });
        }
        Ok(Outcome {
            status,
            stdout_truncated: self.stdout.truncated(),
            stderr_truncated: self.stderr.truncated(),
            stdout: std::mem::take(&mut self.stdout.kept),
            stderr: std::mem::take(&mut self.stderr.kept),
            enforced,
            usage,
            duration_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }
}

impl Drop for Session {
    /// On an early return: the launcher must not stay behind, neither running nor as a zombie.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Killing the launcher ends the tree by the parent-death signal; both fail only if it has just ended.
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

fn decode(wait_status: i32) -> Status {
    let status = std::process::ExitStatus::from_raw(wait_status);
    match (status.code(), status.signal()) {
        (Some(code), _) => Status::Exited(code),
        (None, signal) => Status::Signalled(signal.unwrap_or_default()),
    }
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}
