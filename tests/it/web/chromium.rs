//! A headless Chromium, driven as a person would.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use fantoccini::{
    Client, ClientBuilder, Locator, elements::Element, wd::WebDriverCompatibleCommand,
};
use hyper_util::client::legacy::connect::HttpConnector;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use url::{ParseError, Url};

use crate::stand::bind::free_port;

/// How long a page may take, on a machine that does ten things at once.
const PATIENCE: Duration = Duration::from_mins(1);

/// A browser with a profile of its own.
pub struct Chromium {
    driver: Child,
    client: Option<Client>,
    pub url: String,
    _profile: TempDir,
}

/// A command of Chromium's own.
#[derive(Debug)]
struct Own(&'static str, Value);

impl WebDriverCompatibleCommand for Own {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap()))
    }

    fn method_and_body(&self, _: &Url) -> (http::Method, Option<String>) {
        let body = json!({"cmd": self.0, "params": self.1});
        (http::Method::POST, Some(body.to_string()))
    }
}

impl Chromium {
    pub async fn at(url: &str) -> Self {
        let port = free_port();
        let profile = TempDir::new().unwrap();
        let driver = Command::new("/usr/bin/chromedriver")
            .arg(format!("--port={port}"))
            .env("HOME", profile.path())
            .env("TMPDIR", profile.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // The browser is of its group, and goes with it where a test ends early.
            .process_group(0)
            .spawn()
            .expect("chromedriver is missing: apt-get install chromium chromium-driver");
        let options = json!({
            "binary": "/usr/bin/chromium",
            "args": [
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--hide-scrollbars",
                "--window-size=1280,900",
                format!("--user-data-dir={}", profile.path().display()),
            ],
        });
        let mut capabilities = serde_json::Map::new();
        capabilities.insert("goog:chromeOptions".to_owned(), options);
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities);
        let began = std::time::Instant::now();
        let client = loop {
            match builder.connect(&format!("http://127.0.0.1:{port}")).await {
                Ok(client) => break client,
                Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        Self {
            driver,
            client: Some(client),
            url: url.to_owned(),
            _profile: profile,
        }
    }

    fn client(&self) -> &Client {
        self.client.as_ref().unwrap()
    }

    pub async fn own(&self, command: &'static str, parameters: Value) -> Value {
        self.client()
            .issue_cmd(Own(command, parameters))
            .await
            .unwrap()
    }

    pub async fn go(&self, path: &str) {
        self.client()
            .goto(&format!("{}{path}", self.url))
            .await
            .unwrap();
    }

    pub async fn path(&self) -> String {
        self.client().current_url().await.unwrap().path().to_owned()
    }

    /// The first element that fits, once there is one.
    pub async fn find(&self, css: &str) -> Element {
        let found = self
            .client()
            .wait()
            .at_most(PATIENCE)
            .for_element(Locator::Css(css))
            .await;
        match found {
            Ok(element) => element,
            Err(error) => panic!("{css}: {error}\n{}", self.text().await),
        }
    }

    pub async fn write(&self, css: &str, text: &str) {
        self.touch(css, async |element| element.send_keys(text).await.is_ok())
            .await;
    }

    pub async fn click(&self, css: &str) {
        let center = "arguments[0].scrollIntoView({block: 'center'})";
        self.touch(css, async |element| {
            let named = vec![serde_json::to_value(&element).unwrap()];
            let is_seen = self.client().execute(center, named).await.is_ok();
            is_seen && element.click().await.is_ok()
        })
        .await;
    }

    /// Does something with an element. A page that changes may take it away between two commands: then it is looked for
    /// again.
    async fn touch(&self, css: &str, act: impl AsyncFn(Element) -> bool) {
        let began = std::time::Instant::now();
        loop {
            let element = self.find(css).await;
            if act(element).await {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "it cannot be used: {css}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What one reads; nothing while another page is being loaded.
    pub async fn text(&self) -> String {
        let read = self
            .client()
            .execute("return document.body.innerText", vec![]);
        let read = read.await.unwrap_or_default();
        read.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until one reads it; nothing is loaded anew.
    pub async fn until_read(&self, words: &str) {
        let began = std::time::Instant::now();
        loop {
            let text = self.text().await;
            if text.contains(words) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "never read: {words}\n{text}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What a script says.
    pub async fn ask(&self, script: &str) -> Value {
        self.client().execute(script, vec![]).await.unwrap()
    }

    pub async fn login(&self, token: &str) {
        self.go("/login").await;
        self.write("#token", token).await;
        self.click(".login button").await;
        // Where it leads is reached before one goes elsewhere: else that is overtaken.
        self.until_read("Log out").await;
    }

    pub async fn scheme(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.own("Emulation.setEmulatedMedia", features).await;
    }

    pub async fn wide(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.own("Emulation.setDeviceMetricsOverride", metrics)
            .await;
    }

    pub async fn scripts(&self, run: bool) {
        self.own(
            "Emulation.setScriptExecutionDisabled",
            json!({"value": !run}),
        )
        .await;
    }

    /// Keeps what one sees, the whole page of it.
    pub async fn picture(&self, name: &str) -> PathBuf {
        let taken = self
            .own(
                "Page.captureScreenshot",
                json!({"format": "png", "captureBeyondViewport": true}),
            )
            .await;
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pictures");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{name}.png"));
        fs::write(
            &path,
            STANDARD.decode(taken["data"].as_str().unwrap()).unwrap(),
        )
        .unwrap();
        path
    }

    pub async fn close(mut self) {
        let _ = self.client.take().unwrap().close().await;
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let group = Pid::from_raw(i32::try_from(self.driver.id()).unwrap());
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.driver.wait();
    }
}
