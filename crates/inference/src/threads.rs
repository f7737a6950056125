//! How many threads to compute with, and how they wait for each other.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::process::Command;

/// How the OpenMP runtime's threads wait; any of these set by the person counts as a decision.
const WAIT_POLICY: &str = "OMP_WAIT_POLICY";
const DECISIONS: [&str; 3] = [WAIT_POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME"];

/// Physical cores this process may use, at least 1. Hyper-threads of one core share the units that matrix products
/// saturate, so more threads than cores only add waiting.
pub fn physical_cores() -> u32 {
    let allowed = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let cores = sibling_groups().filter(|count| *count > 0).unwrap_or(allowed);
    u32::try_from(cores.min(allowed)).unwrap_or(1).max(1)
}

/// Whether the threads that compute sleep while they wait for each other.
///
/// By default the OpenMP runtime lets them spin, which takes the processor from whoever they wait for: beside one busy
/// process on two cores, decoding becomes 25 times slower. Alone, spinning gains nothing that can be measured.
pub fn waits_passively() -> bool {
    std::env::var_os(WAIT_POLICY).is_some_and(|policy| policy.eq_ignore_ascii_case("passive"))
}

/// Makes this process one whose computing threads sleep while they wait: replaces it by itself with the variable set.
/// To be called first thing in `main`, since the OpenMP runtime reads its variables when it is loaded. Returns if
/// nothing is to be done: the variables say something already, or the system cannot replace a process.
///
/// # Errors
/// The system's reason why the program could not be started again; going on is safe, only slower under load.
pub fn ensure_passive_waiting() -> io::Result<()> {
    if DECISIONS.iter().any(|name| std::env::var_os(name).is_some()) {
        return Ok(());
    }
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).env(WAIT_POLICY, "passive");
    replace(command, name)
}

#[cfg(unix)]
fn replace(mut command: Command, name: Option<OsString>) -> io::Result<()> {
    use std::os::unix::process::CommandExt;

    if let Some(name) = name {
        command.arg0(name);
    }
    Err(command.exec())
}

#[cfg(not(unix))]
fn replace(_command: Command, _name: Option<OsString>) -> io::Result<()> {
    Ok(())
}

/// Linux lists for every logical processor the ones that share its core; each distinct list is a core.
fn sibling_groups() -> Option<usize> {
    let mut groups = BTreeSet::new();
    for entry in fs::read_dir("/sys/devices/system/cpu").ok()?.flatten() {
        if let Ok(siblings) = fs::read_to_string(entry.path().join("topology/thread_siblings_list")) {
            groups.insert(siblings);
        }
    }
    Some(groups.len())
}
