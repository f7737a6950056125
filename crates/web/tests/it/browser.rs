//! A real Chromium for one test: headless, with a profile of its own, driven over WebDriver.

use std::{
    fmt::Debug,
    panic::{AssertUnwindSafe, resume_unwind},
    process::Stdio,
    time::Duration,
};

use axum::http::Method;
use fantoccini::{
    Client, ClientBuilder, Locator,
    actions::{InputSource, KeyAction, KeyActions},
    elements::Element,
    wd::WebDriverCompatibleCommand,
};
use futures::FutureExt;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use url::{ParseError, Url};

/// How long a page may take to show what is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
const MISSING: &str =
    "the page is tested in a real browser: install Debian's packages chromium and chromium-driver";
const LONGEST_TEST: Duration = Duration::from_secs(240);

/// Runs a test in a browser of its own, and ends the browser whatever becomes of the test.
pub(crate) async fn in_browser<Test, Run>(test: Test)
where
    Test: FnOnce(Page) -> Run,
    Run: Future<Output = ()>,
{
    let mut driver = Driver::start().await;
    let client = driver.open().await;
    let page = Page { client: client.clone() };
    // The browser's own first page is no business of the test.
    page.open("about:blank").await;
    page.requests().await;
    let outcome = timeout(LONGEST_TEST, AssertUnwindSafe(test(page)).catch_unwind()).await;
    client.close().await.expect("the browser closes");
    driver.stop().await;
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => resume_unwind(failure),
        Err(_) => panic!("the test took more than {LONGEST_TEST:?}"),
    }
}

struct Driver {
    process: Child,
    url: String,
    profile: TempDir,
}

impl Driver {
    async fn start() -> Self {
        for program in ["/usr/bin/chromium", "/usr/bin/chromedriver"] {
            assert!(std::fs::exists(program).unwrap(), "{program} is missing; {MISSING}");
        }
        // chromedriver takes a free port and then listens on it twice (IPv4 and IPv6); between the two somebody else may have
        // come, and it gives up.
        for _ in 0..4 {
            if let Some(driver) = Self::try_start().await {
                return driver;
            }
        }
        panic!("chromedriver ends without naming its port, four times; {MISSING}");
    }

    /// `None` if chromedriver has ended before it could be used.
    async fn try_start() -> Option<Self> {
        let mut process = Command::new("/usr/bin/chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver cannot be started: {error}; {MISSING}"));
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let named = timeout(PATIENCE, async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some((_, port)) = line.split_once("started successfully on port ") {
                    return Some(port.trim_end_matches('.').to_owned());
                }
            }
            None
        });
        let Some(port) = named.await.expect("chromedriver names its port in time") else {
            process.wait().await.unwrap();
            return None;
        };
        // The pipe stays open and empty, or chromedriver would stop when it is full.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Some(Self { process, url: format!("http://127.0.0.1:{port}"), profile: TempDir::new().unwrap() })
    }

    async fn open(&self) -> Client {
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1280,860",
        ];
        let profile = format!("--user-data-dir={}", self.profile.path().display());
        let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).chain([profile]).collect();
        let capabilities = json!({
            "goog:chromeOptions": { "binary": "/usr/bin/chromium", "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "unhandledPromptBehavior": "ignore",
        });
        let Value::Object(capabilities) = capabilities else { unreachable!() };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let opened = timeout(PATIENCE * 2, builder.capabilities(capabilities).connect(&self.url)).await;
        opened.expect("Chromium starts in time").expect("Chromium starts")
    }

    async fn stop(&mut self) {
        self.process.start_kill().unwrap();
        self.process.wait().await.unwrap();
    }
}

impl Drop for Driver {
    // After a failure to close it orderly, Chromium would live on: it is in the group that chromedriver leads.
    fn drop(&mut self) {
        if let Some(leader) = self.process.id() {
            let _ = std::process::Command::new("kill").args(["-KILL", "--", &format!("-{leader}")]).status();
        }
    }
}

/// The page under test.
#[derive(Clone)]
pub(crate) struct Page {
    pub(crate) client: Client,
}

impl Page {
    pub(crate) async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// Waits until `look` finds what it wants; tells what it saw last if it never does.
    pub(crate) async fn until<Seen: Debug>(
        &self,
        what: &str,
        look: impl AsyncFn() -> Seen,
        wanted: impl Fn(&Seen) -> bool,
    ) -> Seen {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = look().await;
            if wanted(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "{what}: {seen:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs a script in the page and answers what it returns.
    pub(crate) async fn run(&self, script: &str, arguments: Vec<Value>) -> Value {
        self.client.execute(script, arguments).await.unwrap()
    }

    /// Runs a script that hands its result to `done`.
    pub(crate) async fn run_async(&self, script: &str, arguments: Vec<Value>) -> Value {
        let script = format!("const done = arguments[arguments.length - 1];\n{script}");
        self.client.execute_async(&script, arguments).await.unwrap()
    }

    /// The rendered text of every element that matches.
    pub(crate) async fn texts(&self, css: &str) -> Vec<String> {
        let script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText ?? one.textContent)";
        serde_json::from_value(self.run(script, vec![json!(css)]).await).unwrap()
    }

    pub(crate) async fn text(&self, css: &str) -> String {
        self.texts(css).await.join("\n")
    }

    pub(crate) async fn count(&self, css: &str) -> usize {
        self.texts(css).await.len()
    }

    pub(crate) async fn attribute(&self, css: &str, name: &str) -> Option<String> {
        let script = "return document.querySelector(arguments[0])?.getAttribute(arguments[1]) ?? null";
        self.run(script, vec![json!(css), json!(name)]).await.as_str().map(str::to_owned)
    }

    /// Waits until the text of the matching elements holds `part`.
    pub(crate) async fn shows(&self, css: &str, part: &str) -> String {
        let what = format!("`{css}` does not show {part:?}");
        self.until(&what, async || self.text(css).await, |text| text.contains(part)).await
    }

    pub(crate) async fn find(&self, css: &str) -> Element {
        let found = self.client.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await;
        found.unwrap_or_else(|error| panic!("{css}: {error}"))
    }

    pub(crate) async fn click(&self, css: &str) {
        self.find(css).await.click().await.unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    /// Presses keys wherever the focus is.
    pub(crate) async fn press(&self, keys: &str) {
        let mut actions = KeyActions::new("keyboard".into());
        for value in keys.chars() {
            actions = actions.then(KeyAction::Down { value }).then(KeyAction::Up { value });
        }
        self.client.perform_actions(actions).await.unwrap();
    }

    pub(crate) async fn type_into(&self, css: &str, text: &str) {
        self.find(css).await.send_keys(text).await.unwrap();
    }

    /// Types a request and sends it with the Enter key.
    pub(crate) async fn ask(&self, request: &str) {
        self.type_into("#input", &format!("{request}\u{e007}")).await;
    }

    /// Takes a picture; `KAMIL_SCREENSHOTS=FOLDER` keeps it for a look.
    pub(crate) async fn picture(&self, name: &str) {
        let picture = self.client.screenshot().await.unwrap();
        assert!(picture.len() > 10_000, "an empty picture");
        if let Some(folder) = std::env::var_os("KAMIL_SCREENSHOTS") {
            std::fs::write(std::path::Path::new(&folder).join(format!("{name}.png")), &picture).unwrap();
        }
    }

    pub(crate) async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.client.issue_cmd(ChromeCommand { path: "goog/cdp/execute", body }).await.unwrap()
    }

    async fn log(&self, kind: &str) -> Vec<Value> {
        let command = ChromeCommand { path: "se/log", body: json!({ "type": kind }) };
        let entries = self.client.issue_cmd(command).await.unwrap();
        entries.as_array().unwrap().clone()
    }

    /// What the page wrote to the console, or the browser about the page, since it was last asked.
    pub(crate) async fn console(&self) -> Vec<String> {
        self.log("browser").await.iter().map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Addresses of all requests that the page tried to make since it was last asked.
    pub(crate) async fn requests(&self) -> Vec<String> {
        let events = self.log("performance").await.into_iter().map(|entry| {
            let message: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            message["message"].clone()
        });
        let sent = events.filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }
}

/// A command of chromedriver beyond the standard.
#[derive(Debug)]
struct ChromeCommand {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for ChromeCommand {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}
