//! The system calls that the task may make: an allow-list, with arguments where they matter.
//!
//! What is not listed is refused with EPERM; newer variants of allowed calls whose arguments lie in memory, where a
//! filter cannot look, get ENOSYS, so that libraries fall back to the old ones; a call by another architecture's
//! table (32-bit, x32) kills. The list holds what CPython, bash, coreutils and node use.

use super::outside::{Refusal, refuse};
use crate::Layer;
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Compare, SeccompCondition,
    SeccompFilter, SeccompRule, sock_filter,
};
use std::collections::BTreeMap;

pub(super) type Filter = BpfProgram;

const FILES: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_utimensat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_umask,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_tee,
    libc::SYS_copy_file_range,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    libc::SYS_signalfd4,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
];

const MEMORY: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_msync,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect,
    libc::SYS_membarrier,
    libc::SYS_get_mempolicy,
];

const PROCESSES: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getpgid,
    libc::SYS_setpgid,
    libc::SYS_getsid,
    libc::SYS_setsid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_capget,
    libc::SYS_getrlimit,
    libc::SYS_getrusage,
    libc::SYS_getpriority,
    libc::SYS_setpriority,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_getattr,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_getcpu,
];

const CLOCKS_AND_SYSTEM: &[c_long] = &[
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_gettime,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_delete,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrandom,
];

/// Between processes of the sandbox; a socket of another family than AF_UNIX cannot be made in the first place.
const LOCAL_SOCKETS: &[c_long] = &[
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
];

/// Calls that only x86_64 still has; elsewhere their successors above are all there is.
#[cfg(target_arch = "x86_64")]
const LEGACY: &[c_long] = &[
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_getdents,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_inotify_init,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_getpgrp,
    libc::SYS_pause,
    libc::SYS_alarm,
    libc::SYS_time,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const LEGACY: &[c_long] = &[];

/// Refused as if the kernel did not have them.
const UNKNOWN: &[c_long] = &[libc::SYS_clone3, libc::SYS_openat2];

/// Refused as if the file system could not do it, so that `cp -a` goes on without.
const UNSUPPORTED: &[c_long] = &[
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];

/// Requests of a terminal, pipe or file that only ask or set the caller's own descriptor. TIOCSTI, TIOCLINUX and all
/// other ways to type for the user are absent.
const IOCTLS: &[u64] = &[
    libc::TCGETS,
    libc::TIOCGWINSZ,
    libc::TIOCGPGRP,
    libc::FIONREAD,
    libc::FIONBIO,
    libc::FIOCLEX,
    libc::FIONCLEX,
    // FICLONE, FICLONERANGE: `cp` shares blocks where the file system can.
    0x4004_9409,
    0x4020_940d,
];

const PRCTLS: &[i32] = &[
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_SET_PDEATHSIG,
    libc::PR_GET_PDEATHSIG,
    libc::PR_GET_DUMPABLE,
    libc::PR_CAPBSET_READ,
    libc::PR_SET_NO_NEW_PRIVS,
    libc::PR_GET_NO_NEW_PRIVS,
    libc::PR_SET_CHILD_SUBREAPER,
    libc::PR_GET_CHILD_SUBREAPER,
    libc::PR_SET_TIMERSLACK,
    libc::PR_GET_TIMERSLACK,
    libc::PR_GET_SECCOMP,
    libc::PR_SET_VMA,
];

/// The same number on every architecture; the `libc` crate does not name it on all of them.
const FCHMODAT2: c_long = 452;

const NEW_NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;
/// A file made set-user-id in the workspace would be a trap for the host, where it lies on.
const SET_ID: u32 = libc::S_ISUID | libc::S_ISGID;
/// O_TMPFILE without the O_DIRECTORY that it includes.
const MAKES_UNNAMED_FILE: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;
type Fault = seccompiler::BackendError;

/// Compiles the filter.
pub(super) fn filter() -> Result<Filter, Fault> {
    let mut rules = Rules::new();
    arguments_of_files(&mut rules)?;
    arguments_of_processes(&mut rules)?;
    #[cfg(target_arch = "x86_64")]
    let arch = seccompiler::TargetArch::x86_64;
    #[cfg(target_arch = "aarch64")]
    let arch = seccompiler::TargetArch::aarch64;
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let body: BpfProgram = SeccompFilter::new(rules, refused, SeccompAction::Allow, arch)?.try_into()?;
    let mut program = preamble();
    program.extend(always_allowed());
    program.extend(body);
    Ok(program)
}

/// Puts the filter on this process and all that it starts, for good.
pub(super) fn install(filter: &Filter) -> Result<(), Refusal> {
    seccompiler::apply_filter(filter).map_err(refuse(Layer::Seccomp, "install the filter"))
}

fn arguments_of_files(rules: &mut Rules) -> Result<(), Fault> {
    for (call, flags, mode) in [
        (libc::SYS_openat, 2, 3),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_open, 1, 2),
    ] {
        let creates = (libc::O_CREAT | MAKES_UNNAMED_FILE).unsigned_abs();
        rules.insert(call, vec![rule(flags, without(creates), 0)?, rule(mode, without(SET_ID), 0)?]);
    }
    for (call, mode) in [
        (libc::SYS_fchmod, 1),
        (libc::SYS_fchmodat, 2),
        (FCHMODAT2, 2),
        (libc::SYS_mknodat, 2),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_chmod, 1),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_creat, 1),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_mknod, 1),
    ] {
        rules.insert(call, vec![rule(mode, without(SET_ID), 0)?]);
    }
    let requests = IOCTLS.iter().map(|request| rule(1, Compare::Eq, *request)).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_ioctl, requests);
    Ok(())
}

fn arguments_of_processes(rules: &mut Rules) -> Result<(), Fault> {
    // RLIMIT_DATA counts neither shared anonymous memory nor what grows downwards; a file mapping is bounded by the file.
    let (anonymous, shared) = (libc::MAP_ANONYMOUS.unsigned_abs(), libc::MAP_SHARED.unsigned_abs());
    let grows = libc::MAP_GROWSDOWN.unsigned_abs();
    rules.insert(
        libc::SYS_mmap,
        vec![rule(3, without(grows | anonymous), 0)?, rule(3, without(grows | shared), 0)?],
    );
    rules.insert(libc::SYS_clone, vec![rule(0, without(NEW_NAMESPACES.unsigned_abs()), 0)?]);
    let options = PRCTLS
        .iter()
        .map(|option| rule(0, Compare::Eq, u64::from(option.unsigned_abs())))
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_prctl, options);
    // Only to ask which one is in force, as some interpreters do.
    rules.insert(libc::SYS_personality, vec![rule(0, Compare::Eq, 0xffff_ffff)?]);
    // Everything but the core file limit may be lowered further (it cannot be raised); that one must stay as it is.
    let core = u64::from(libc::RLIMIT_CORE);
    let reads = SeccompCondition::new(2, Width::Qword, Compare::Eq, 0)?;
    rules.insert(libc::SYS_prlimit64, vec![rule(1, Compare::Ne, core)?, SeccompRule::new(vec![reads])?]);
    rules.insert(libc::SYS_setrlimit, vec![rule(0, Compare::Ne, core)?]);
    let local = SeccompCondition::new(0, Width::Dword, Compare::Eq, libc::AF_UNIX as u64)?;
    let stream = SeccompCondition::new(1, Width::Dword, Compare::MaskedEq(0xf), libc::SOCK_STREAM as u64)?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![local.clone(), stream])?]);
    rules.insert(libc::SYS_socketpair, vec![SeccompRule::new(vec![local])?]);
    Ok(())
}

/// A condition on the lower half of an argument: the calls that are listed with one take 32 bits there and ignore
/// what stands above.
fn rule(argument: u8, compare: Compare, value: u64) -> Result<SeccompRule, Fault> {
    SeccompRule::new(vec![SeccompCondition::new(argument, Width::Dword, compare, value)?])
}

/// None of these bits is set (to be compared with 0).
fn without(bits: u32) -> Compare {
    Compare::MaskedEq(u64::from(bits))
}

/// Comes before the list: kills on a foreign architecture and on x32, whose calls bear the native architecture and a
/// marked number; answers for [`UNKNOWN`] and [`UNSUPPORTED`].
fn preamble() -> BpfProgram {
    const NUMBER_OFFSET: u32 = 0;
    const ARCH_OFFSET: u32 = 4;
    #[cfg(target_arch = "x86_64")]
    const NATIVE: u32 = 0xc000_003e;
    #[cfg(target_arch = "aarch64")]
    const NATIVE: u32 = 0xc000_00b7;
    /// Bit 30 marks x32; no table has so many calls, so that the check does no harm elsewhere.
    const X32_BIT: u32 = 0x4000_0000;
    let load = |offset| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let jump = |test, value, yes, no| instruction(libc::BPF_JMP | test | libc::BPF_K, yes, no, value);
    let answer = |action| instruction(libc::BPF_RET | libc::BPF_K, 0, 0, action);
    let mut program = vec![
        load(ARCH_OFFSET),
        jump(libc::BPF_JEQ, NATIVE, 1, 0),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER_OFFSET),
        jump(libc::BPF_JGE, X32_BIT, 0, 1),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
    ];
    for (calls, errno) in [(UNKNOWN, libc::ENOSYS), (UNSUPPORTED, libc::EOPNOTSUPP)] {
        for call in calls {
            program.push(jump(libc::BPF_JEQ, u32::try_from(*call).unwrap_or(u32::MAX), 0, 1));
            program.push(answer(libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()));
        }
    }
    program
}

/// Allows the calls that are listed without conditions, as ranges of neighbouring numbers. When a filter is installed
/// the kernel tries it on every number there is, so that a long chain of comparisons would cost half a millisecond.
fn always_allowed() -> BpfProgram {
    let lists = [FILES, MEMORY, PROCESSES, CLOCKS_AND_SYSTEM, LOCAL_SOCKETS, LEGACY];
    let mut numbers: Vec<u32> =
        lists.concat().into_iter().filter_map(|call| u32::try_from(call).ok()).collect();
    numbers.sort_unstable();
    let ranges = numbers.chunk_by(|number, next| number + 1 == *next);
    let range = |range: &[u32]| {
        let (first, last) =
            (range.first().copied().unwrap_or_default(), range.last().copied().unwrap_or_default());
        [
            instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 2, first),
            instruction(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 1, 0, last),
            instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        ]
    };
    ranges.flat_map(range).collect()
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or_default(), jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_short() {
        let length = filter().unwrap().len();
        assert!((200..=600).contains(&length), "{length} instructions");
    }

    #[test]
    fn no_call_is_listed_twice() {
        let lists =
            [FILES, MEMORY, PROCESSES, CLOCKS_AND_SYSTEM, LOCAL_SOCKETS, LEGACY, UNKNOWN, UNSUPPORTED]
                .concat();
        let distinct: std::collections::BTreeSet<_> = lists.iter().collect();
        assert_eq!(distinct.len(), lists.len());
    }

    #[test]
    fn dangerous_calls_are_absent() {
        let lists = [FILES, MEMORY, PROCESSES, CLOCKS_AND_SYSTEM, LOCAL_SOCKETS, LEGACY].concat();
        for call in [
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_pidfd_getfd,
            libc::SYS_mount,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_memfd_create,
            libc::SYS_execveat,
            libc::SYS_shmget,
        ] {
            assert!(!lists.contains(&call), "{call}");
        }
    }
}
