//! A real browser: Debian's `chromium`, driven by `chromedriver`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use integration_tests::ports::free_port;
use serde_json::{Value, json};
use tempfile::TempDir;
use url::{ParseError, Url};

use crate::demo::{Demo, LIMIT};

/// What a browser in a container needs, and what keeps it from the network.
const ARGUMENTS: [&str; 12] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--lang=en",
];
/// Starts that are tried: another process may take the port in between.
const TRIES: usize = 5;

/// A browser with the dashboard of a demo.
pub(crate) struct Page {
    pub(crate) demo: Demo,
    pub(crate) client: Client,
    driver: Child,
    /// Where the driver is told to end the browser.
    session: String,
    port: u16,
    _profile: TempDir,
}

/// The size of the window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// A key that is pressed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Key {
    Tab,
    Enter,
    Left,
    Right,
}

pub(crate) const DESKTOP: Size = Size { width: 1440, height: 1000 };
pub(crate) const PHONE: Size = Size { width: 390, height: 844 };

impl Page {
    /// Opens the dashboard, and waits until it shows figures.
    pub(crate) async fn open(demo: Demo) -> Self {
        let (driver, port) = start_driver();
        let profile = TempDir::with_prefix("async-cache-browser-").expect("a directory");
        let mut arguments: Vec<String> = ARGUMENTS.map(str::to_owned).to_vec();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let capabilities = json!({
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let Value::Object(capabilities) = capabilities else { unreachable!("it is an object") };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let connected = builder.capabilities(capabilities).connect(&format!("http://127.0.0.1:{port}")).await;
        let client = connected.expect("chromium starts: apt-get install chromium chromium-driver");
        let session = client.session_id().await.expect("a session").expect("a session");
        let page = Self { demo, client, driver, session, port, _profile: profile };
        page.size(DESKTOP).await;
        page.devtools("Emulation.setFocusEmulationEnabled", json!({ "enabled": true })).await;
        page.client.goto(&page.demo.url()).await.expect("the page loads");
        page.until("the page is live", "$('link').textContent === 'Live'").await;
        page
    }

    /// Ends the browser. Returns what it wrote to the console since it was opened.
    pub(crate) async fn close(self) -> Vec<String> {
        let entries = self.vendor("se/log", json!({ "type": "browser" })).await;
        let entries = entries.as_array().cloned().unwrap_or_default();
        let _ = self.client.clone().close().await;
        entries.iter().map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The value of an expression. `$` finds an element by its id.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        let script = format!("const $ = (id) => document.getElementById(id); return ({expression});");
        self.client.execute(&script, Vec::new()).await.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    pub(crate) async fn text(&self, id: &str) -> String {
        let text = self.value(&format!("$('{id}').innerText")).await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&self, what: &str, expression: &str) {
        let begun = Instant::now();
        while self.value(expression).await != json!(true) {
            if begun.elapsed() > LIMIT {
                let seen = self.value("document.body.innerText").await;
                panic!("{what}: not within {LIMIT:?}. The page says: {}", seen.as_str().unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the banner begins with this.
    pub(crate) async fn banner(&self, text: &str) {
        self.until(&format!("banner: {text}"), &format!("$('banner').innerText.startsWith({})", json!(text)))
            .await;
    }

    /// Clicks, as a user would, on the element that a CSS selector finds.
    pub(crate) async fn click(&self, selector: &str) {
        let element = self.client.find(fantoccini::Locator::Css(selector)).await;
        let element = element.unwrap_or_else(|error| panic!("{selector}: {error}"));
        element.click().await.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    pub(crate) async fn size(&self, size: Size) {
        let Size { width, height } = size;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// `light` or `dark`.
    pub(crate) async fn scheme(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Presses a key, wherever the focus is.
    pub(crate) async fn press(&self, key: Key) {
        let (name, code, text) = match key {
            Key::Tab => ("Tab", 9, ""),
            Key::Enter => ("Enter", 13, "\r"),
            Key::Left => ("ArrowLeft", 37, ""),
            Key::Right => ("ArrowRight", 39, ""),
        };
        for kind in [if text.is_empty() { "rawKeyDown" } else { "keyDown" }, "keyUp"] {
            let event = json!({ "type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code, "text": text });
            self.devtools("Input.dispatchKeyEvent", event).await;
        }
    }

    /// A picture of the whole page, as PNG in Base64.
    pub(crate) async fn picture(&self) -> String {
        let picture = self.devtools("Page.captureScreenshot", json!({ "captureBeyondViewport": true })).await;
        picture["data"].as_str().expect("a picture").to_owned()
    }

    async fn devtools(&self, method: &str, params: Value) -> Value {
        self.vendor("goog/cdp/execute", json!({ "cmd": method, "params": params })).await
    }

    async fn vendor(&self, path: &'static str, body: Value) -> Value {
        let answer = self.client.issue_cmd(Vendor { path, body }).await;
        answer.unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // A driver that is killed leaves its browser running. After a failure nobody has closed it.
        if let Ok(mut driver) = TcpStream::connect(("127.0.0.1", self.port)) {
            let request = format!(
                "DELETE /session/{} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\r\n",
                self.session, self.port
            );
            let _ = driver.set_read_timeout(Some(Duration::from_secs(10)));
            let _ = driver.write_all(request.as_bytes()).and_then(|()| driver.read(&mut [0; 64]));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// A command that only this browser has.
#[derive(Debug)]
struct Vendor {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Vendor {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

fn start_driver() -> (Child, u16) {
    for _ in 0..TRIES {
        let port = free_port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut driver = driver.expect("chromedriver is needed: apt-get install chromium chromium-driver");
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            if matches!(driver.try_wait(), Ok(Some(_))) {
                break;
            }
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return (driver, port);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = driver.kill();
        let _ = driver.wait();
    }
    panic!("chromedriver does not start");
}
