//! What init gives up for good: new privileges, capabilities, and by Landlock every right but those listed here.

use super::filesystem::{Mount, SYSTEM_FOLDERS};
use super::outside::{Refusal, refuse};
use crate::wire::{Report, Request};
use crate::{Layer, TMP, WORKSPACE, sys};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};
use std::io;
use std::path::Path;

/// Linux has 41 capabilities as of 6.18; the set has room for 64.
const CAPABILITIES_MAX: u32 = 64;

/// Of the first thread; the stacks of others count as memory.
const STACK_BYTES: u64 = 8 << 20;

pub(super) fn forbid_new_privileges() -> Result<(), Refusal> {
    rustix::thread::set_no_new_privs(true).map_err(refuse(Layer::NoNewPrivileges, "prctl"))
}

/// Empties the bounding, ambient, inheritable, permitted and effective sets, and locks the ways back.
pub(super) fn drop_capabilities() -> Result<(), Refusal> {
    let failed = |operation: &'static str| refuse(Layer::CapabilitiesDropped, operation);
    for number in 0..CAPABILITIES_MAX {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel does not have one of this number, nor a higher one.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(failed("empty the bounding set")(error)),
        }
    }
    rustix::thread::clear_ambient_capability_set().map_err(failed("empty the ambient set"))?;
    let locked = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    rustix::thread::set_capabilities_secure_bits(locked).map_err(failed("lock the secure bits"))?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).map_err(failed("empty the other sets"))
}

/// Restricts this process and its children by the highest ABI that both the kernel and this crate know. Returns it.
pub(super) fn restrict_by_landlock(request: &Request, mounts: &[Mount]) -> Result<u32, Refusal> {
    let failed = |reason: String| Report::Refused { layer: Layer::Landlock, reason };
    let kernel =
        sys::landlock_abi().map_err(refuse(Layer::Landlock, "ask the kernel for its Landlock version"))?;
    let abi = ABI::from(kernel);
    let number = abi as u32;
    if number < request.min_landlock_abi.max(1) {
        return Err(failed(format!(
            "the policy wants ABI {}, this machine has {number}",
            request.min_landlock_abi
        )));
    }
    let ruleset = rules(request, mounts, abi).map_err(|error| failed(format!("make the rules: {error}")))?;
    let status = ruleset.restrict_self().map_err(|error| failed(format!("restrict: {error}")))?;
    if status.ruleset != RulesetStatus::FullyEnforced {
        return Err(failed(format!("the rules are {:?}", status.ruleset)));
    }
    match status.landlock {
        LandlockStatus::Available { effective_abi, .. } if effective_abi == abi => Ok(number),
        other => Err(failed(format!("the kernel answers {other:?} after ABI {number}"))),
    }
}

fn rules(
    request: &Request,
    mounts: &[Mount],
    abi: ABI,
) -> Result<RulesetCreated, Box<dyn std::error::Error>> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))?;
    // No rule ever grants the network, so handling an access denies it.
    let network = AccessNet::from_all(abi);
    if !network.is_empty() {
        ruleset = ruleset.handle_access(network)?;
    }
    let scopes = Scope::from_all(abi);
    if !scopes.is_empty() {
        ruleset = ruleset.scope(scopes)?;
    }
    let mut created = ruleset.create()?;
    let look = AccessFs::ReadFile | AccessFs::ReadDir;
    let run = look | AccessFs::Execute;
    let devices = AccessFs::IoctlDev | AccessFs::MakeChar | AccessFs::MakeBlock;
    let mut write = AccessFs::from_all(abi) & !devices;
    if !request.allow_exec {
        write &= !BitFlags::from(AccessFs::Execute);
    }
    let mut grant = |path: &Path, access: BitFlags<AccessFs>| -> Result<(), Box<dyn std::error::Error>> {
        let file = PathFd::new(path)?;
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(abi) };
        (&mut created).add_rule(PathBeneath::new(file, access))?;
        Ok(())
    };
    grant(Path::new("/"), AccessFs::ReadDir.into())?;
    for path in ["/etc", "/proc", "/dev"] {
        grant(Path::new(path), look)?;
    }
    for path in SYSTEM_FOLDERS.map(Path::new) {
        if path.exists() {
            grant(path, run)?;
        }
    }
    // The others can be read: a shared mapping of a writable /dev/zero would be memory that no limit counts.
    let pour = (AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate) & AccessFs::from_all(abi);
    for path in ["/dev/null", "/dev/full"].map(Path::new) {
        if path.exists() {
            grant(path, pour)?;
        }
    }
    grant(Path::new(TMP), write)?;
    for mount in mounts {
        let access = match (mount.writable, mount.path == Path::new(WORKSPACE) && !request.allow_exec) {
            (true, _) => write,
            (false, true) => look,
            (false, false) => run,
        };
        grant(&mount.path, access)?;
    }
    Ok(created)
}

/// Too small for any core file, and 1 rather than 0 because only 1 also keeps the kernel from starting the host's core
/// dump handler, for which 0 is no limit (core(5)). Apart from the others, since the filter forbids to change it.
pub(super) fn forbid_core_files() -> io::Result<()> {
    sys::set_limit(libc::RLIMIT_CORE, 1, 1)
}

/// Limits of the process and, by inheritance, of all that it starts.
pub(super) fn set_limits(request: &Request) -> io::Result<()> {
    let limits = &request.limits;
    for (resource, value) in [
        (libc::RLIMIT_DATA, limits.memory_bytes),
        (libc::RLIMIT_AS, limits.address_space_bytes),
        (libc::RLIMIT_NPROC, limits.processes),
        (libc::RLIMIT_NOFILE, limits.open_files),
        (libc::RLIMIT_FSIZE, limits.file_size_bytes),
        (libc::RLIMIT_STACK, STACK_BYTES),
        (libc::RLIMIT_MEMLOCK, 64 << 10),
        (libc::RLIMIT_MSGQUEUE, 0),
    ] {
        sys::set_limit(resource, value, value)?;
    }
    let seconds = limits.cpu_seconds.max(1);
    sys::set_limit(libc::RLIMIT_CPU, seconds, seconds.saturating_add(1))
}
