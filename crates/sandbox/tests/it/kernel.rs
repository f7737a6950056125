//! System calls that widen the kernel's surface are refused, by number and by argument.

use crate::stage::{Stage, for_each_caller, is_root, python, text};
use kamil_sandbox::Status;

/// Calls `syscall` with the arguments and tells the answer as `value errno`. Words `&N` are zeroed buffers of N bytes, `=T` texts.
const CALL: &str = r"
import ctypes, sys
lib = ctypes.CDLL(None, use_errno=True)
lib.syscall.restype = ctypes.c_long
def argument(w):
    if w[0] == '&': return ctypes.create_string_buffer(int(w[1:]))
    if w[0] == '=': return ctypes.create_string_buffer(w[1:].encode())
    return ctypes.c_long(int(w, 0))
args = [argument(w) for w in sys.argv[2:]]
value = lib.syscall(ctypes.c_long(int(sys.argv[1])), *args)
import os
if value == 0 and sys.argv[2:3] == ['0x10000011']: os._exit(0)
print('DONE' if value >= 0 else 'errno', ctypes.get_errno() if value < 0 else '')
";

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;

struct Call {
    name: &'static str,
    number: i64,
    args: &'static [&'static str],
    /// The control needs root; where the tests do not run as root it is left out and only the refusal is tested.
    root_only: bool,
    refused_with: i32,
}

const fn call(name: &'static str, number: i64, args: &'static [&'static str]) -> Call {
    Call { name, number, args, root_only: false, refused_with: EPERM }
}

const CALLS: &[Call] = &[
    call("unshare NEWUSER", libc::SYS_unshare, &["0x10000000"]),
    call("clone NEWUSER", libc::SYS_clone, &["0x10000011", "0", "0", "0", "0"]),
    call("ptrace TRACEME", libc::SYS_ptrace, &["0", "0", "0", "0"]),
    call("process_vm_readv", libc::SYS_process_vm_readv, &["1", "0", "0", "0", "0", "0"]),
    call("io_uring_setup", libc::SYS_io_uring_setup, &["1", "&120"]),
    call("keyctl", libc::SYS_keyctl, &["0", "-3", "1"]),
    call("userfaultfd", libc::SYS_userfaultfd, &["1"]),
    call("memfd_create", libc::SYS_memfd_create, &["&2", "0"]),
    call("shmget", libc::SYS_shmget, &["0", "4096", "0"]),
    call("socket netlink", libc::SYS_socket, &["16", "3", "0"]),
    call("socket UDP", libc::SYS_socket, &["2", "2", "0"]),
    call("socket TCP6", libc::SYS_socket, &["10", "1", "0"]),
    call("socket unix datagram", libc::SYS_socket, &["1", "2", "0"]),
    call("mmap shared anonymous", libc::SYS_mmap, &["0", "4096", "3", "0x21", "-1", "0"]),
    call("mmap growing down", libc::SYS_mmap, &["0", "4096", "3", "0x122", "-1", "0"]),
    call("personality", libc::SYS_personality, &["0x40000"]),
    call("seccomp", libc::SYS_seccomp, &["2", "0", "&4"]),
    call("landlock_create_ruleset", libc::SYS_landlock_create_ruleset, &["0", "0", "1"]),
    Call { root_only: true, ..call("socket packet", libc::SYS_socket, &["17", "3", "0"]) },
    Call { root_only: true, ..call("socket raw", libc::SYS_socket, &["2", "3", "1"]) },
    Call { root_only: true, ..call("unshare NEWNS", libc::SYS_unshare, &["0x20000"]) },
    Call { root_only: true, ..call("chroot", libc::SYS_chroot, &["=/"]) },
];

/// Calls whose control would change the machine or whose arguments are elaborate: refused before they are looked at.
const NEVER: &[(&str, i64)] = &[
    ("mount", libc::SYS_mount),
    ("umount2", libc::SYS_umount2),
    ("pivot_root", libc::SYS_pivot_root),
    ("open_tree", libc::SYS_open_tree),
    ("fsopen", libc::SYS_fsopen),
    ("setns", libc::SYS_setns),
    ("bpf", libc::SYS_bpf),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("name_to_handle_at", libc::SYS_name_to_handle_at),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("io_uring_enter", libc::SYS_io_uring_enter),
    ("execveat", libc::SYS_execveat),
    ("add_key", libc::SYS_add_key),
    ("request_key", libc::SYS_request_key),
    ("kexec_load", libc::SYS_kexec_load),
    ("init_module", libc::SYS_init_module),
    ("reboot", libc::SYS_reboot),
    ("swapon", libc::SYS_swapon),
    ("syslog", libc::SYS_syslog),
    ("acct", libc::SYS_acct),
    ("quotactl", libc::SYS_quotactl),
    ("settimeofday", libc::SYS_settimeofday),
    ("mq_open", libc::SYS_mq_open),
    ("msgget", libc::SYS_msgget),
    ("semget", libc::SYS_semget),
    ("setuid", libc::SYS_setuid),
    ("setgroups", libc::SYS_setgroups),
    ("capset", libc::SYS_capset),
    ("kcmp", libc::SYS_kcmp),
    ("fanotify_init", libc::SYS_fanotify_init),
];

fn words(number: i64, args: &[&str]) -> Vec<String> {
    std::iter::once(number.to_string()).chain(args.iter().map(|arg| (*arg).to_owned())).collect()
}

fn answer(stage: &Stage, number: i64, args: &[&str]) -> String {
    let words = words(number, args);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    text(&stage.python(CALL, &words).stdout).trim().to_owned()
}

#[test]
fn dangerous_calls_succeed_outside_and_are_refused_inside() {
    for_each_caller(|stage| {
        for call in CALLS {
            let all = words(call.number, call.args);
            let all: Vec<_> = all.iter().map(String::as_str).collect();
            // process_vm_readv of nothing succeeds on one's own process only, whose number is 1 nowhere outside.
            let own = call.number == libc::SYS_process_vm_readv;
            let possible = !call.root_only || (is_root() && stage.caller == crate::stage::Caller::Own);
            if possible && !own {
                let control = if call.number == libc::SYS_seccomp {
                    // Available to be asked: SECCOMP_GET_ACTION_AVAIL.
                    "DONE".to_owned()
                } else {
                    stage.without(&python(CALL, &all))
                };
                assert!(
                    control.contains("DONE"),
                    "control of {} as {:?}: {control}",
                    call.name,
                    stage.caller
                );
            }
            let refused = answer(stage, call.number, call.args);
            assert_eq!(
                refused,
                format!("errno {}", call.refused_with),
                "{} as {:?}",
                call.name,
                stage.caller
            );
        }
    });
}

#[test]
fn calls_that_nobody_needs_are_refused_before_their_arguments_matter() {
    for_each_caller(|stage| {
        // One process for all, since only numbers differ.
        let script = "import ctypes, sys\nlib = ctypes.CDLL(None, use_errno=True)\nfor n in sys.argv[1:]:\n  \
            v = lib.syscall(ctypes.c_long(int(n)), *[ctypes.c_long(-1)] * 6)\n  print(n, v, ctypes.get_errno())";
        let numbers: Vec<String> = NEVER.iter().map(|(_, number)| number.to_string()).collect();
        let outcome = stage.python(script, &numbers.iter().map(String::as_str).collect::<Vec<_>>());
        let printed = text(&outcome.stdout);
        for (name, number) in NEVER {
            assert!(printed.contains(&format!("{number} -1 {EPERM}\n")), "{name} ({number}):\n{printed}");
        }
    });
}

#[test]
fn variants_with_arguments_in_memory_look_missing() {
    for_each_caller(|stage| {
        for number in [libc::SYS_clone3, libc::SYS_openat2] {
            assert_eq!(answer(stage, number, &["0", "0", "0", "0"]), format!("errno {ENOSYS}"));
        }
    });
}

#[test]
fn typing_for_the_user_is_refused_also_with_high_bits_set() {
    const EBADF_OR_ENOTTY: [&str; 2] = ["errno 9", "errno 25"];
    for_each_caller(|stage| {
        for request in [0x5412_u64, 0x541c, 0x1_0000_5412, 0xdead_0000_541c] {
            let request = request.to_string();
            let arguments = ["0", &request, "0"];
            let all = words(libc::SYS_ioctl, &arguments);
            let all: Vec<_> = all.iter().map(String::as_str).collect();
            let mut control = stage.unconfined(&python(CALL, &all));
            let control = text(&control.stdin(std::process::Stdio::null()).output().unwrap().stdout);
            assert!(EBADF_OR_ENOTTY.contains(&control.trim()), "{control}");
            assert_eq!(answer(stage, libc::SYS_ioctl, &arguments), format!("errno {EPERM}"), "{request}");
        }
    });
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_by_a_foreign_table_kill() {
    // mov eax, 20 (getpid of i386); int 0x80; ret
    const I386: &str = r"
import ctypes, mmap
page = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 7)
page.write(b'\xb8\x14\x00\x00\x00\xcd\x80\xc3')
call = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
print('DONE' if call() > 0 else 'no')
";
    const SIGSYS: i32 = 31;
    for_each_caller(|stage| {
        assert_eq!(stage.attack(I386, &[]).status, Status::Signalled(SIGSYS));
        // Kernels mostly come without x32, so that there is no control; the kill shows that the filter saw the call.
        let x32 = (0x4000_0000_i64 + libc::SYS_getpid).to_string();
        assert_eq!(stage.python(CALL, &[&x32]).status, Status::Signalled(SIGSYS));
    });
}
