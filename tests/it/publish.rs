//! The status page at its boundary: what a browser, a feed reader, a web server's folder and a bucket get.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, routing::get};
use failover::{
    model::{announcement::Phase, check::CheckStatus, time::Time},
    port::target::{PageFile, Target},
    publish::{
        self,
        listener::{self, Limits, Pages},
        s3::{Bucket, S3With},
        view::{
            ComponentView, CutOver, Fallback, IncidentView, ServiceView, Status, StatusView,
            UpdateView,
        },
    },
};
use object_store::ObjectStoreExt as _;
use reqwest::{Client, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use crate::stand::s3::S3;

const LONG: Duration = Duration::from_secs(20);

fn at(clock: &str) -> Time {
    Time::parse(&format!("2026-11-21T{clock}Z")).unwrap()
}

/// A shop whose second site serves.
fn on_standby() -> StatusView {
    StatusView {
        title: "Example Shop status".into(),
        url: Some("https://status.example.com/".into()),
        generated: at("14:07:30"),
        services: vec![ServiceView {
            name: "shop".into(),
            title: "Example Shop".into(),
            status: Status::Degraded,
            symptom: Some("The shop does not open.".into()),
            components: vec![ComponentView {
                name: "web".into(),
                title: "Shop".into(),
                status: Status::Degraded,
                since: Some(at("14:06:40")),
                availability: None,
            }],
            availability: None,
            promised: None,
            fallback: Some(Fallback {
                url: "https://standby.example.com/".into(),
                since: at("14:06:40"),
                verified: at("14:07:21"),
            }),
            dns: Some(CutOver::Switching),
            next_update: Some(at("14:25:00")),
        }],
        incidents: vec![IncidentView {
            id: "shop-i12".into(),
            service: "shop".into(),
            components: vec!["web".into()],
            title: "Example Shop cannot be reached".into(),
            impact: Status::MajorOutage,
            started: at("14:03:22"),
            ended: None,
            drill: false,
            updates: vec![UpdateView {
                id: "shop-i12-onStandby".into(),
                phase: Phase::OnStandby,
                at: at("14:06:40"),
                text: "Use https://standby.example.com/ for now.".into(),
            }],
        }],
    }
}

/// A listener on a port of its own.
struct Stage {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Stage {
    async fn open(routes: Router, limits: Limits) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(listener::serve(socket, routes, limits, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            stop: Some(stop),
            task,
        }
    }

    async fn of(view: &StatusView) -> Self {
        let pages = Pages::default();
        pages.show(&publish::render(view));
        Self::open(listener::router(pages), Limits::default()).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn client() -> Client {
    Client::builder().no_proxy().timeout(LONG).build().unwrap()
}

#[tokio::test]
async fn a_browser_gets_the_page_with_what_protects_it() {
    let stage = Stage::of(&on_standby()).await;
    let answer = client().get(stage.url("/")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let headers = answer.headers().clone();
    assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["referrer-policy"], "no-referrer");
    assert_eq!(headers["cache-control"], "public, max-age=10");
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"));
    assert!(policy.ends_with("frame-ancestors 'none'"));
    let body = answer.text().await.unwrap();
    assert!(body.contains("https://standby.example.com/"));
}

#[tokio::test]
async fn every_rendered_file_is_served_and_nothing_else() {
    let stage = Stage::of(&on_standby()).await;
    for file in publish::render(&on_standby()) {
        let answer = client()
            .get(stage.url(&format!("/{}", file.path)))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{}", file.path);
        assert_eq!(answer.headers()["content-type"], file.content_type);
        let open = answer.headers().contains_key("access-control-allow-origin");
        assert_eq!(open, file.path != "index.html", "{}", file.path);
        assert_eq!(answer.bytes().await.unwrap(), file.bytes);
    }
    for path in [
        "/nothing",
        "/../Cargo.toml",
        "/api/v2/",
        "/%2e%2e/etc/passwd",
    ] {
        let answer = client().get(stage.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn an_unchanged_file_costs_a_304_and_a_changed_one_comes_anew() {
    let pages = Pages::default();
    let file = |text: &str| PageFile {
        path: "index.html".into(),
        content_type: "text/html; charset=utf-8",
        bytes: text.as_bytes().to_vec(),
    };
    pages.show(&[file("one")]);
    let stage = Stage::open(listener::router(pages.clone()), Limits::default()).await;
    let tag = client().get(stage.url("/")).send().await.unwrap().headers()["etag"].clone();
    let ask = |tags: String| {
        client()
            .get(stage.url("/"))
            .header("if-none-match", tags)
            .send()
    };
    let tag = tag.to_str().unwrap();
    for tags in [
        tag.to_owned(),
        format!("W/{tag}"),
        format!("\"x\", {tag}"),
        "*".to_owned(),
    ] {
        let answer = ask(tags.clone()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED, "{tags}");
        assert_eq!(answer.headers()["etag"], tag);
    }
    assert_eq!(ask("\"x\"".into()).await.unwrap().status(), StatusCode::OK);
    pages.show(&[file("two")]);
    let answer = ask(tag.to_owned()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.text().await.unwrap(), "two");
}

#[tokio::test]
async fn head_has_the_length_without_the_body_and_writing_is_refused() {
    let stage = Stage::of(&on_standby()).await;
    let body = client().get(stage.url("/")).send().await.unwrap();
    let length = body.bytes().await.unwrap().len().to_string();
    let head = client().head(stage.url("/")).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(head.headers()["content-length"], length.as_str());
    assert_eq!(head.bytes().await.unwrap().len(), 0);
    let post = client()
        .post(stage.url("/"))
        .body("x")
        .send()
        .await
        .unwrap();
    assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(post.headers()["allow"], "GET, HEAD");
}

#[tokio::test]
async fn before_the_first_rendering_it_says_try_again() {
    let stage = Stage::open(listener::router(Pages::default()), Limits::default()).await;
    let answer = client().get(stage.url("/")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "2");
}

#[tokio::test]
async fn other_routes_stand_beside_the_page() {
    let pages = Pages::default();
    pages.show(&publish::render(&on_standby()));
    let unsubscribe = Router::new().route("/unsubscribe", get(async || "really?"));
    let routes = listener::router(pages).merge(unsubscribe);
    let stage = Stage::open(routes, Limits::default()).await;
    let text = async |path: &str| {
        let answer = client().get(stage.url(path)).send().await.unwrap();
        answer.text().await.unwrap()
    };
    assert_eq!(text("/unsubscribe").await, "really?");
    assert!(text("/").await.contains("Example Shop"));
}

#[tokio::test]
async fn who_dribbles_a_request_is_hung_up_on_and_others_are_served() {
    let pages = Pages::default();
    pages.show(&publish::render(&on_standby()));
    let limits = Limits {
        connections: 2,
        head: Duration::from_millis(300),
        ..Limits::default()
    };
    let stage = Stage::open(listener::router(pages), limits).await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(stage.address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ")
            .await
            .unwrap();
        slow.push(stream);
    }
    let answer = client().get(stage.url("/")).send().await.unwrap();
    assert_eq!(
        answer.status(),
        StatusCode::OK,
        "once the slow ones are gone"
    );
    for mut stream in slow {
        let mut rest = Vec::new();
        let _ = timeout(LONG, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let limits = Limits {
        head: Duration::from_millis(200),
        ..Limits::default()
    };
    let stage = Stage::open(listener::router(Pages::default()), limits).await;
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut all = Vec::new();
    timeout(LONG, stream.read_to_end(&mut all))
        .await
        .unwrap()
        .unwrap();
    assert!(all.starts_with(b"HTTP/1.1 503"));
}

#[tokio::test]
async fn a_stop_answers_what_is_under_way_and_ends() {
    let (entered, has_entered) = oneshot::channel();
    let (finish, finished) = oneshot::channel::<()>();
    let gates = std::sync::Mutex::new(Some((entered, finished)));
    let gates = std::sync::Arc::new(gates);
    let slow = Router::new().route(
        "/slow",
        get(move || {
            let gates = gates.lock().unwrap().take();
            async move {
                let (entered, finished) = gates.unwrap();
                entered.send(()).unwrap();
                finished.await.unwrap();
                "done"
            }
        }),
    );
    let mut stage = Stage::open(slow, Limits::default()).await;
    let idle = TcpStream::connect(stage.address).await.unwrap();
    let asked = tokio::spawn(client().get(stage.url("/slow")).send());
    timeout(LONG, has_entered).await.unwrap().unwrap();
    stage.stop.take().unwrap().send(()).unwrap();
    let refused = async {
        while TcpStream::connect(stage.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, refused).await.unwrap();
    finish.send(()).unwrap();
    let answer = timeout(LONG, asked).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.text().await.unwrap(), "done");
    timeout(LONG, stage.task).await.unwrap().unwrap();
    drop(idle);
}

#[tokio::test]
async fn an_answer_that_hangs_is_given_up() {
    let limits = Limits {
        answer: Duration::from_millis(100),
        ..Limits::default()
    };
    let hang = Router::new().route("/hang", get(std::future::pending::<()>));
    let stage = Stage::open(hang, limits).await;
    let answer = client().get(stage.url("/hang")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
}

/// A bucket below `status/` of the server.
fn bucket(s3: &S3) -> Bucket {
    Bucket::open(&settings(s3), &S3::secrets()).unwrap()
}

fn settings(s3: &S3) -> S3With {
    serde_json::from_value(serde_json::to_value(s3.with("status")).unwrap()).unwrap()
}

#[tokio::test]
async fn a_bucket_holds_every_file_and_gets_only_what_changed() {
    let s3 = S3::start();
    let bucket = bucket(&s3);
    let files = publish::render(&on_standby());
    bucket.write(&files).await.unwrap();
    for file in &files {
        let there = s3.object(&format!("status/{}", file.path));
        assert_eq!(there.as_ref(), Some(&file.bytes), "{}", file.path);
    }
    s3.put("status/feed.atom", b"left alone");
    let mut view = on_standby();
    view.services[0].symptom = Some("Something else.".into());
    let changed = publish::render(&view);
    bucket.write(&changed).await.unwrap();
    assert_eq!(
        s3.object("status/index.html").as_ref(),
        changed.last().map(|f| &f.bytes)
    );
    assert_eq!(s3.object("status/feed.atom").unwrap(), b"left alone");
}

#[tokio::test]
async fn an_outage_of_the_bucket_is_told_and_the_next_write_makes_up_for_it() {
    let s3 = S3::start();
    let bucket = bucket(&s3);
    s3.begin_outage();
    let files = publish::render(&on_standby());
    let error = bucket.write(&files).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot write the status page to s3://copies/status"
    );
    assert_eq!(s3.object("status/index.html"), None);
    s3.end_outage();
    bucket.write(&files).await.unwrap();
    assert!(s3.object("status/index.html").is_some());
}

#[tokio::test]
async fn a_wrong_key_is_found_by_check_and_never_shown() {
    let s3 = S3::start();
    assert_eq!(bucket(&s3).check().await[0].status, CheckStatus::Ok);
    assert_eq!(
        s3.object("status/index.html"),
        None,
        "the page is not touched"
    );
    let wrong = Bucket::open(&settings(&s3), &S3::wrong_secrets()).unwrap();
    let items = wrong.check().await;
    assert_eq!(items[0].status, CheckStatus::Fail);
    assert!(items[0].fix.as_ref().unwrap().contains("s3:PutObject"));
    let shown = format!("{items:?}");
    assert!(!shown.contains("another-secret"), "{shown}");
    assert!(wrong.write(&publish::render(&on_standby())).await.is_err());
}

#[tokio::test]
async fn a_bucket_serves_the_page_with_its_media_type() {
    let s3 = S3::start();
    bucket(&s3)
        .write(&publish::render(&on_standby()))
        .await
        .unwrap();
    let store = s3.with("status").open(&S3::secrets()).unwrap();
    let page = object_store::path::Path::from("status/index.html");
    let got = store.objects.get(&page).await.unwrap();
    let attribute = |a| got.attributes.get(&a).map(|v| v.as_ref().to_owned());
    assert_eq!(
        attribute(object_store::Attribute::ContentType).as_deref(),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(
        attribute(object_store::Attribute::CacheControl).as_deref(),
        Some("public, max-age=10")
    );
}
