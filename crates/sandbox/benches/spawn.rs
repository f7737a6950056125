//! What confinement costs: `/bin/true` started plainly, in the sandbox, and by bubblewrap where that is installed.

#![expect(clippy::unwrap_used, reason = "a bench that cannot run should say so and stop")]

use criterion::{Criterion, criterion_group, criterion_main};
use kamil_sandbox::{CancelToken, Command, Launcher, Policy, run};
use std::process::Stdio;

fn spawn(criterion: &mut Criterion) {
    let workspace = tempfile::tempdir().unwrap();
    let launcher = Launcher::new(env!("CARGO_BIN_EXE_kamil-confine"));
    let policy = Policy { workspace: Some(workspace.path().to_owned()), ..Policy::default() };
    let command = Command::new("/bin/true", [""; 0]);
    let cancel = CancelToken::new();
    let mut group = criterion.benchmark_group("spawn /bin/true");
    group.bench_function("plain", |bencher| {
        bencher.iter(|| {
            let mut plain = std::process::Command::new("/bin/true");
            plain.stdin(Stdio::null()).output().unwrap()
        });
    });
    group.bench_function("confined", |bencher| {
        bencher.iter(|| {
            let outcome = run(&launcher, &policy, &command, &cancel).unwrap();
            assert!(outcome.status.success());
        });
    });
    let words = "--ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib --symlink usr/lib64 /lib64 --proc /proc \
        --dev /dev --tmpfs /tmp --unshare-all --die-with-parent --new-session --cap-drop ALL /bin/true";
    let bubblewrap = || std::process::Command::new("bwrap").args(words.split_whitespace()).output();
    if bubblewrap().is_ok_and(|output| output.status.success()) {
        group.bench_function("bwrap, without Landlock, seccomp and limits", |bencher| {
            bencher.iter(|| bubblewrap().unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, spawn);
criterion_main!(benches);
