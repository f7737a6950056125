//! A machine that lacks a layer is refused, by the name of the layer; nothing runs there.

use crate::stage::{PYTHON, Stage, for_each_caller, python};
use kamil_sandbox::{CancelToken, Layer, Policy, SandboxError, run};

/// Makes a machine without a system call: puts on a filter under which the call named by number answers with errno,
/// optionally only if argument A has all bits of mask M set; then runs the rest of its arguments.
const WITHOUT: &str = r"
import ctypes, os, struct, sys
number, errno, argument, mask = map(int, sys.argv[1:5])
ins = lambda code, jt, jf, k: struct.pack('<HBBI', code, jt, jf, k)
prog = ins(0x20, 0, 0, 0)
if mask == 0:
    prog += ins(0x15, 0, 1, number) + ins(0x06, 0, 0, 0x50000 | errno)
else:
    prog += ins(0x15, 0, 4, number) + ins(0x20, 0, 0, 16 + 8 * argument) + ins(0x54, 0, 0, mask)
    prog += ins(0x15, 0, 1, mask) + ins(0x06, 0, 0, 0x50000 | errno)
prog += ins(0x06, 0, 0, 0x7fff0000)
code = ctypes.create_string_buffer(prog, len(prog))
fprog = ctypes.create_string_buffer(struct.pack('<HxxxxxxQ', len(prog) // 8, ctypes.addressof(code)))
lib = ctypes.CDLL(None, use_errno=True)
assert lib.prctl(38, 1, 0, 0, 0) == 0
assert lib.prctl(22, 2, fprog, 0, 0) == 0
os.execv(sys.argv[5], sys.argv[5:])
";

struct Lack {
    number: i64,
    argument: u8,
    mask: i32,
    layer: Layer,
}

const fn lack(number: i64, layer: Layer) -> Lack {
    Lack { number, argument: 0, mask: 0, layer }
}

const fn lack_if(number: i64, argument: u8, mask: i32, layer: Layer) -> Lack {
    Lack { number, argument, mask, layer }
}

const LACKS: &[Lack] = &[
    lack(libc::SYS_pivot_root, Layer::PivotRoot),
    lack(libc::SYS_mount_setattr, Layer::PivotRoot),
    lack(libc::SYS_move_mount, Layer::PivotRoot),
    lack(libc::SYS_sethostname, Layer::UtsNamespace),
    lack(libc::SYS_capset, Layer::CapabilitiesDropped),
    lack_if(libc::SYS_prctl, 0, libc::PR_CAPBSET_DROP, Layer::CapabilitiesDropped),
    lack(libc::SYS_landlock_create_ruleset, Layer::Landlock),
    lack(libc::SYS_landlock_add_rule, Layer::Landlock),
    lack(libc::SYS_landlock_restrict_self, Layer::Landlock),
    lack(libc::SYS_setsid, Layer::NewSession),
    lack(libc::SYS_prlimit64, Layer::ResourceLimits),
    lack(libc::SYS_seccomp, Layer::Seccomp),
    lack(libc::SYS_setresuid, Layer::UnprivilegedUser),
    lack(libc::SYS_pidfd_open, Layer::DiesWithCaller),
];

/// The namespaces come with one call, and the launcher finds out which of them is the one that fails.
const NAMESPACES: &[(i32, Layer)] = &[
    (libc::CLONE_NEWUSER, Layer::UserNamespace),
    (libc::CLONE_NEWPID, Layer::PidNamespace),
    (libc::CLONE_NEWIPC, Layer::IpcNamespace),
    (libc::CLONE_NEWUTS, Layer::UtsNamespace),
    (libc::CLONE_NEWNS, Layer::MountNamespace),
    (libc::CLONE_NEWNET, Layer::NetworkNamespace),
    (libc::CLONE_NEWCGROUP, Layer::CgroupNamespace),
];

const MARK: &str = "open('ran', 'w')";

/// Runs the command on a machine that lacks what is given, and returns the layer that is missed, if any.
fn missed(stage: &Stage, lacks: &[Lack]) -> Option<Layer> {
    let mut wrapper = Vec::new();
    for lack in lacks {
        let numbers = [lack.number, i64::from(libc::ENOSYS), i64::from(lack.argument), i64::from(lack.mask)];
        wrapper.extend([PYTHON.to_owned(), "-c".to_owned(), WITHOUT.to_owned()]);
        wrapper.extend(numbers.map(|number| number.to_string()));
    }
    let launcher = stage.launcher_by(&wrapper.iter().map(String::as_str).collect::<Vec<_>>());
    match run(&launcher, &stage.policy(), &python(MARK, &[]), &CancelToken::new()) {
        Ok(outcome) => {
            assert!(outcome.status.success());
            None
        }
        Err(SandboxError::LayerUnavailable { layer, reason }) => {
            assert!(!reason.is_empty());
            Some(layer)
        }
        Err(error) => panic!(
            "{error}; lacking {:?}",
            lacks.iter().map(|lack| (lack.number, lack.mask)).collect::<Vec<_>>()
        ),
    }
}

#[test]
fn a_missing_layer_is_named_and_nothing_runs() {
    for_each_caller(|stage| {
        let ran = stage.workspace.join("ran");
        for lack in LACKS {
            let named = missed(stage, std::slice::from_ref(lack));
            // For a root caller the same call also maps the owner, and fails there first.
            let first = lack.number == libc::SYS_mount_setattr && named == Some(Layer::UnprivilegedUser);
            assert!(named == Some(lack.layer) || first, "call {}: {named:?}", lack.number);
            assert!(!ran.exists());
        }
        // The control: the same wrapper, lacking a call that nobody makes.
        assert_eq!(missed(stage, &[lack(libc::SYS_reboot, Layer::Seccomp)]), None);
        assert!(ran.exists());
    });
}

#[test]
fn a_missing_namespace_is_named() {
    for_each_caller(|stage| {
        for (flag, layer) in NAMESPACES {
            let lacks =
                [lack_if(libc::SYS_clone, 0, *flag, *layer), lack_if(libc::SYS_unshare, 0, *flag, *layer)];
            // As root, the owner's user namespace is made first.
            let named = missed(stage, &lacks).unwrap();
            let first = *layer == Layer::UserNamespace && named == Layer::UnprivilegedUser;
            assert!(named == *layer || first, "{named} instead of {layer}");
        }
    });
}

#[test]
fn a_policy_may_want_more_landlock_than_the_machine_has() {
    for_each_caller(|stage| {
        let policy = Policy { min_landlock_abi: 1000, ..stage.policy() };
        let error = stage.try_run(&policy, &python(MARK, &[])).unwrap_err();
        assert!(matches!(error, SandboxError::LayerUnavailable { layer: Layer::Landlock, .. }), "{error}");
        assert!(!stage.workspace.join("ran").exists());
    });
}

#[test]
fn what_is_reported_is_what_the_kernel_says() {
    const STATUS: &str = "print(open('/proc/self/status').read())";
    for_each_caller(|stage| {
        let outcome = stage.python(STATUS, &[]);
        let status = crate::stage::text(&outcome.stdout);
        for line in [
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "NSpid:\t2",
        ] {
            assert!(status.contains(line), "{line}:\n{status}");
        }
        assert_eq!(outcome.enforced.layers, Layer::ALL);
        assert!(outcome.enforced.landlock_abi >= 1);
        assert_ne!(outcome.enforced.host_uid, 0, "not even a root caller's sandbox is root");
        let json = serde_json::to_value(&outcome.enforced).unwrap();
        assert_eq!(json["layers"][0], "user_namespace");
    });
}
