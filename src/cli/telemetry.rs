//! What the program logs, to standard error: lines for people or JSON for machines.
//!
//! Spans carry `service`, `run` and `step`; each line names the spans that it happened in.

use std::io;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterFn, filter_fn},
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    util::{SubscriberInitExt as _, TryInitError},
};

/// Libraries that log what goes over the wire, and the finest level that holds no credential, no address of a person
/// and no message: `tokio_postgres` logs parameters of queries at debug, the others headers and bodies at trace.
const CAPS: [(&str, Level); 11] = [
    ("h2", Level::DEBUG),
    ("hyper", Level::DEBUG),
    ("hyper_util", Level::DEBUG),
    ("lettre", Level::DEBUG),
    ("object_store", Level::DEBUG),
    ("reqwest", Level::DEBUG),
    ("rustls", Level::DEBUG),
    ("teloxide", Level::DEBUG),
    ("teloxide_core", Level::DEBUG),
    ("tokio_postgres", Level::INFO),
    ("tungstenite", Level::DEBUG),
];

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// For people, with time stamps in UTC.
    Text {
        /// Whether the levels are coloured.
        color: bool,
    },
    /// One JSON object a line.
    Json,
}

/// Why logging cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error(
        "{0:?} is no log filter: expected error, warn, info, debug, trace, or a filter such as failover::dns=debug"
    )]
    Filter(String, #[source] tracing_subscriber::filter::ParseError),
    /// Logging has begun already.
    #[error("logging has begun already")]
    Begun(#[source] TryInitError),
}

/// Begins to log to standard error. Without a filter, `info`.
///
/// # Errors
/// Where the filter cannot be read.
pub fn init(filter: Option<&str>, lines: Lines) -> Result<(), TelemetryError> {
    subscriber(filter.unwrap_or("info"), lines, io::stderr)?
        .try_init()
        .map_err(TelemetryError::Begun)
}

fn subscriber<W>(
    filter: &str,
    lines: Lines,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + 'static, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer);
    let layer = match lines {
        Lines::Text { color } => layer.with_ansi(color).boxed(),
        Lines::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .boxed(),
    };
    Ok(Registry::default()
        .with(levels(filter)?)
        .with(layer.with_filter(capped())))
}

/// A bare level is the program's own; its libraries then speak of what is wrong only.
fn levels(filter: &str) -> Result<EnvFilter, TelemetryError> {
    let filter = filter.trim();
    let filter = match filter.to_ascii_lowercase().as_str() {
        level @ ("warn" | "info" | "debug" | "trace") => format!("warn,failover={level}"),
        _ => filter.to_owned(),
    };
    EnvFilter::builder()
        .parse(&filter)
        .map_err(|source| TelemetryError::Filter(filter, source))
}

/// Keeps back what no filter may let out.
fn capped() -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    filter_fn(|meta| {
        let from = meta.target().split("::").next().unwrap_or_default();
        CAPS.iter()
            .all(|(library, finest)| *library != from || meta.level() <= finest)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::with_default;

    use super::*;
    use crate::model::secret::{Secret, SecretRef};

    /// Collects what is logged.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Sink {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, lines: Lines, work: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = subscriber(filter, lines, move || writer.clone()).unwrap();
        with_default(subscriber, work);
        sink.text()
    }

    fn step() {
        let service = tracing::info_span!("service", service = "shop");
        let _service = service.enter();
        let step = tracing::info_span!("step", run = "shop-r7", step = "promote");
        let _step = step.enter();
        tracing::info!(took = "1.2s", "the step is done");
    }

    #[test]
    fn text_is_for_people() {
        let text = logged("info", Lines::Text { color: false }, step);
        let (stamp, rest) = text.split_once(' ').unwrap();
        assert!(stamp.ends_with('Z') && crate::model::time::Time::parse(stamp).is_ok());
        assert!(
            rest.contains("INFO service{service=\"shop\"}:step{run=\"shop-r7\" step=\"promote\"}")
        );
        assert!(rest.ends_with("the step is done took=\"1.2s\"\n"));
        assert!(!text.contains('\u{1b}'));
        let colored = logged("info", Lines::Text { color: true }, step);
        assert!(colored.contains("\u{1b}[32m INFO"));
    }

    #[test]
    fn json_is_one_object_a_line_with_its_spans() {
        let text = logged("info", Lines::Json, step);
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "the step is done");
        assert_eq!(line["took"], "1.2s");
        assert_eq!(line["spans"][0]["service"], "shop");
        assert_eq!(line["spans"][1]["step"], "promote");
    }

    #[test]
    fn a_bare_level_is_the_programs_own() {
        let speak = || {
            tracing::debug!("ours");
            tracing::info!(target: "hickory_net", "theirs");
            tracing::warn!(target: "hickory_net", "their trouble");
        };
        let text = logged("DEBUG", Lines::Text { color: false }, speak);
        assert!(text.contains("ours") && text.contains("their trouble"));
        assert!(!text.contains(": theirs"));
        let text = logged("info,hickory_net=info", Lines::Text { color: false }, speak);
        assert!(!text.contains("ours") && text.contains(": theirs"));
        assert_eq!(logged("off", Lines::Json, speak), "");
    }

    #[test]
    fn a_wrong_filter_is_told() {
        let error = levels("failover=loud").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("\"failover=loud\" is no log filter")
        );
    }

    #[test]
    fn what_libraries_say_of_the_wire_is_kept_back_whatever_the_filter() {
        let speak = || {
            tracing::trace!(target: "hyper::proto", "authorization: hunter2");
            tracing::debug!(target: "tokio_postgres::query", "parameters hunter2");
            tracing::debug!(target: "hyper::client", "connected");
        };
        let text = logged("trace,hyper=trace,tokio_postgres=trace", Lines::Json, speak);
        assert!(!text.contains("hunter2"));
        assert!(text.contains("connected"));
    }

    #[test]
    fn a_secret_shows_neither_by_itself_nor_over_the_wire_at_the_finest_level() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let finest = "trace,h2=trace,hyper=trace,hyper_util=trace,reqwest=trace,rustls=trace";
        let text = logged(finest, Lines::Json, || {
            let secret = Secret::new("hunter2");
            let at = SecretRef::Env("TOKEN".into());
            tracing::trace!(?secret, ?at, "read");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let echo = axum::Router::new().fallback(|| async { "fine" });
                tokio::spawn(async move { axum::serve(listener, echo).await });
                let client = crate::port::http::client(std::time::Duration::from_secs(20)).unwrap();
                let answer = client
                    .post(format!(
                        "http://{address}/bot{}/SendMessage",
                        secret.expose()
                    ))
                    .bearer_auth(secret.expose())
                    .body(format!("password={}", secret.expose()))
                    .send();
                assert_eq!(answer.await.unwrap().text().await.unwrap(), "fine");
            });
        });
        assert!(text.contains("Secret(…)"), "{text}");
        assert!(
            text.contains("hyper_util"),
            "the client's own lines are there"
        );
        assert!(!text.contains("hunter2"), "{text}");
    }
}
