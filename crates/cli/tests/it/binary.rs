//! Runs the binary: to its end, or as a service that is killed with the test.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

const POLL: Duration = Duration::from_millis(5);
/// Generous: the machine may be busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A folder of Kamil's, and the binary run on it.
pub(crate) struct Kamil {
    home: TempDir,
    environment: Vec<(String, String)>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// The same, of a run that must have succeeded.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// The run must have ended with this code, and every one of these texts stand on standard error.
    #[track_caller]
    pub(crate) fn refused(self, code: i32, texts: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for text in texts {
            assert!(self.stderr.contains(text), "`{text}` is missing: {self:#?}");
        }
        self
    }
}

impl Kamil {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), environment: Vec::new() }
    }

    /// The same with this variable.
    pub(crate) fn with_environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with these settings.
    pub(crate) fn with_settings(self, text: &str) -> Self {
        std::fs::write(self.path("kamil.toml"), text).unwrap();
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kamil"));
        // Nothing of the caller's environment may change what the test shows.
        let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KAMIL_"));
        for (name, _) in ours {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .env("KAMIL_HOME", self.home.path())
            // Nobody listens there: a command without an address never finds the Kamil of whoever runs the tests.
            .env("KAMIL_ORCHESTRATOR", "127.0.0.1:9")
            // Help is wrapped at this width.
            .env("COLUMNS", "100")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with_input(arguments, "")
    }

    /// Runs it to its end, with this on standard input.
    #[track_caller]
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Finished {
        let mut command = self.command(arguments);
        if !input.is_empty() {
            command.stdin(Stdio::piped());
        }
        run_to_end(command, input)
    }

    /// Runs it to its end on a pseudo-terminal. Each text is typed once what stands before it has appeared; all that is
    /// written is on standard output.
    #[track_caller]
    pub(crate) fn run_on_a_terminal(&self, arguments: &[&str], dialogue: &[(&str, &str)]) -> Finished {
        let quoted = arguments.iter().map(|argument| format!("'{}'", argument.replace('\'', r"'\''")));
        let line: Vec<String> =
            std::iter::once(env!("CARGO_BIN_EXE_kamil").to_owned()).chain(quoted).collect();
        let plain = self.command(&[]);
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--flush", "--command", &line.join(" "), "/dev/null"]);
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = Owned(command.spawn().unwrap());
        let mut keyboard = child.0.stdin.take().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let reading = follow_bytes(child.0.stdout.take().unwrap(), Arc::clone(&shown));
        let text = || String::from_utf8_lossy(&shown.lock().unwrap()).into_owned();
        let mut seen = 0;
        for (expected, typed) in dialogue {
            wait_until(&format!("`{expected}` appears"), || {
                let found = text().get(seen..).and_then(|rest| rest.find(expected));
                found.inspect(|at| seen += at + expected.len()).is_some()
            });
            keyboard.write_all(typed.as_bytes()).unwrap();
        }
        let status = child.wait(PATIENCE).unwrap_or_else(|| panic!("this does not end: {line:?} {}", text()));
        reading.join().unwrap();
        Finished { code: status.code(), stdout: text(), stderr: String::new() }
    }

    /// Starts a service with `--json` and waits for what it writes once it is ready.
    #[track_caller]
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command.arg("--json");
        let mut child = Owned(command.spawn().unwrap());
        let mut stdout = BufReader::new(child.0.stdout.take().unwrap());
        let (line_sender, line) = mpsc::channel();
        thread::spawn(move || {
            let mut first = String::new();
            let _ = stdout.read_line(&mut first);
            let _ = line_sender.send(first);
            let _ = std::io::copy(&mut stdout, &mut std::io::sink());
        });
        let log = Arc::new(Mutex::new(String::new()));
        follow(child.0.stderr.take().unwrap(), Arc::clone(&log));
        let first = line.recv_timeout(PATIENCE).unwrap_or_default();
        let Ok(ready) = serde_json::from_str::<Value>(&first) else {
            let status = child.wait(Duration::from_secs(2));
            panic!(
                "`kamil {}` is not ready: {first:?} {status:?} {}",
                arguments.join(" "),
                log.lock().unwrap()
            );
        };
        Running { url: ready["url"].as_str().unwrap().to_owned(), child, log }
    }
}

#[track_caller]
fn run_to_end(mut command: Command, input: &str) -> Finished {
    let mut child = Owned(command.spawn().unwrap());
    if let Some(mut stdin) = child.0.stdin.take() {
        stdin.write_all(input.as_bytes()).unwrap();
    }
    let stdout = collect(child.0.stdout.take().unwrap());
    let stderr = collect(child.0.stderr.take().unwrap());
    let status = child.wait(PATIENCE).unwrap_or_else(|| panic!("this does not end: {command:?}"));
    Finished { code: status.code(), stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

/// A service that runs; it is killed when dropped.
pub(crate) struct Running {
    /// Where it answers.
    pub(crate) url: String,
    child: Owned,
    log: Arc<Mutex<String>>,
}

impl Running {
    /// `host:port`
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    pub(crate) fn port(&self) -> &str {
        self.url.rsplit(':').next().unwrap()
    }

    /// Its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.0.id()
    }

    /// What it has written to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// SIGKILL, as a power failure would.
    pub(crate) fn kill(&mut self) {
        self.child.0.kill().unwrap();
        self.child.0.wait().unwrap();
    }

    /// Ctrl-C; returns how it ended.
    pub(crate) fn interrupt(&mut self) -> ExitStatus {
        interrupt(self.child.0.id());
        self.child.wait(PATIENCE).expect("the service does not end")
    }
}

/// Sends SIGINT.
pub(crate) fn interrupt(process: u32) {
    let sent = Command::new("kill").args(["-INT", &process.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// A process that does not outlive its test.
struct Owned(Child);

impl Owned {
    fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Some(status);
            }
            thread::sleep(POLL);
        }
        None
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn follow_bytes(
    mut stream: impl Read + Send + 'static,
    shown: Arc<Mutex<Vec<u8>>>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut piece) {
            shown.lock().unwrap().extend_from_slice(&piece[..count]);
        }
    })
}

fn follow(stream: impl Read + Send + 'static, log: Arc<Mutex<String>>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
}

/// Waits until it is so, and says what was waited for if that takes too long.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "this did not happen: {what}");
        thread::sleep(POLL);
    }
}

/// The project's root.
pub(crate) fn project() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
