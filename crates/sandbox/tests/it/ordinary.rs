//! Ordinary programs work as they are used to.

use crate::stage::{Caller, Stage, for_each_caller, text};
use kamil_sandbox::{Command, Policy, Status, find_program};

#[test]
fn a_shell_and_its_tools_work() {
    const SCRIPT: &str = "set -e; cd /workspace; printf '%s\\n' b a c > f; sort f | tr a-z A-Z > g; cp -a g h; mv h i; \
        mkdir -p d/e; tar cf t.tar d f; tar tf t.tar > /dev/null; find . -name f -exec cat {} + > /dev/null; \
        cat <(echo sub) > /dev/null; sleep 0.01 & wait; ln -s f l; readlink l > /dev/null; rm -r d; \
        test \"$(id -un)\" = sandbox; date > /dev/null; cat i | sed s/A/x/ | awk '{print NR $0}'";
    for_each_caller(|stage| {
        let outcome = stage.run(&stage.policy(), &Command::new("bash", ["-c", SCRIPT]));
        assert_eq!(
            (outcome.status, text(&outcome.stdout)),
            (Status::Exited(0), "1x\n2B\n3C\n".into()),
            "{}",
            text(&outcome.stderr)
        );
    });
}

const PROGRAM: &str = r"
import asyncio, concurrent.futures, multiprocessing, random, sqlite3, subprocess, sys, tempfile, threading
def square(x): return x * x
if __name__ == '__main__':
    with multiprocessing.Pool(2) as pool: assert pool.map(square, [1, 2, 3]) == [1, 4, 9]
    with concurrent.futures.ThreadPoolExecutor(4) as pool: assert list(pool.map(square, [2])) == [4]
    async def child():
        process = await asyncio.create_subprocess_exec('echo', 'x', stdout=subprocess.PIPE)
        assert (await process.communicate())[0] == b'x\n'
    asyncio.run(child())
    with tempfile.NamedTemporaryFile() as file: sqlite3.connect(file.name).execute('create table t (x)')
    random.SystemRandom().random()
    print(subprocess.run([sys.executable, '-c', 'print(6 * 7)'], capture_output=True, text=True).stdout, end='')
";

#[test]
fn python_works_with_processes_threads_and_databases() {
    for_each_caller(|stage| {
        stage.put(&stage.workspace.join("program.py"), PROGRAM);
        let outcome = stage.run(&stage.policy(), &Command::new(crate::stage::PYTHON, ["program.py"]));
        assert_eq!(text(&outcome.stdout), "42\n", "{}", text(&outcome.stderr));
    });
}

#[test]
fn the_python_of_the_path_works_wherever_it_lies() {
    let stage = Stage::new(Caller::Own);
    stage.put(&stage.workspace.join("program.py"), PROGRAM);
    let program = find_program("python3").expect("a python3 in PATH");
    let policy = Policy { read_only_binds: program.read_only_binds, ..stage.policy() };
    let outcome = stage.run(&policy, &Command::new(program.path, ["program.py"]));
    assert_eq!(text(&outcome.stdout), "42\n", "{}", text(&outcome.stderr));
}

#[test]
#[ignore = "needs node, which Kamil does not"]
fn node_works_with_workers_and_children() {
    const SCRIPT: &str = "const w = require('worker_threads');\
        new WebAssembly.Memory({initial: 1, maximum: 10}); new SharedArrayBuffer(1024);\
        const out = require('child_process').execSync('echo child').toString();\
        require('fs').writeFileSync('made', out);\
        new w.Worker('require(\"worker_threads\").parentPort.postMessage(7)', {eval: true})\
        .on('message', n => setTimeout(() => console.log(n, out.trim()), 5))";
    for_each_caller(|stage| {
        let program = find_program("node").expect("a node in PATH");
        let policy = Policy { read_only_binds: program.read_only_binds, ..stage.policy() };
        let outcome = stage.run(&policy, &Command::new(program.path, ["-e", SCRIPT]));
        assert_eq!(text(&outcome.stdout), "7 child\n", "{}", text(&outcome.stderr));
    });
}

#[test]
fn without_a_workspace_the_temporary_folder_is_home() {
    let stage = Stage::new(Caller::Own);
    let outcome =
        stage.run(&Policy::default(), &Command::new("/bin/sh", ["-c", "pwd; echo $HOME; ls /workspace"]));
    assert_eq!(text(&outcome.stdout), "/tmp\n/tmp\n");
    assert!(text(&outcome.stderr).contains("No such file"));
}

#[test]
fn codes_and_signals_are_told_apart() {
    for_each_caller(|stage| {
        for (script, status) in [
            ("exit 7", Status::Exited(7)),
            ("kill -9 $$", Status::Signalled(9)),
            ("exit 137", Status::Exited(137)),
        ] {
            assert_eq!(stage.run(&stage.policy(), &Command::new("/bin/sh", ["-c", script])).status, status);
        }
    });
}

#[test]
fn arguments_arrive_as_they_are() {
    use std::os::unix::ffi::OsStringExt;
    for_each_caller(|stage| {
        let odd = std::ffi::OsString::from_vec(b"a\xff\nb $(id) -rf".to_vec());
        let outcome = stage.run(&stage.policy(), &Command::new("printf", ["%s".into(), odd.clone()]));
        assert_eq!(outcome.stdout, odd.into_vec());
    });
}
