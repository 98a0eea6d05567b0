//! The desk of the real binary: who gets in, what they see and may do, and what an attacker gets.

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::stand::{
    controller::{Stand, text, until},
    json_schema,
    visitor::{self, Visitor, address, token},
};

mod attack;
mod browser;
mod chromium;
mod remote;
mod schema;

/// A running controller with a desk on this host.
async fn desk() -> (Stand, String) {
    let mut stand = Stand::new().await;
    stand.start(&["--desk-listen", "127.0.0.1:0"]);
    let url = address(&stand);
    (stand, url)
}

/// Asks for a failover as the plan's page does; what the desk says.
async fn ask(visitor: &mut Visitor, confirm: &str) -> String {
    let plan = visitor.get("/services/shop/plan?kind=failover").await;
    let hash = plan.field("plan");
    let fields = [
        ("act", "open"),
        ("kind", "failover"),
        ("plan", &hash),
        ("reason", "east is on fire"),
        ("confirm", confirm),
    ];
    visitor.act("shop", &fields).await
}

#[tokio::test(flavor = "multi_thread")]
async fn people_ask_and_approve_at_the_desk() {
    let (stand, url) = desk().await;
    let mut ann = Visitor::of(&url, "ann").await;
    let overview = ann.get("/").await;
    for words in [
        "The shop",
        "healthy",
        "No incident is open",
        "failover desk",
    ] {
        assert!(overview.text.contains(words), "{words}: {}", overview.text);
    }
    let wrong = ask(&mut ann, "east").await;
    assert!(
        wrong.contains("east was typed, and this failover leads to west"),
        "{wrong}"
    );
    let nothing = ask(&mut ann, "").await;
    assert!(nothing.contains("has to be confirmed"), "{nothing}");
    assert_eq!(stand.question(), None);
    let asked = ask(&mut ann, "west").await;
    assert!(asked.contains("Done."), "{asked}");
    let question = stand.question().unwrap();

    let mut ben = Visitor::of(&url, "ben").await;
    let page = ben.get("/services/shop").await;
    for words in [
        "asked for by ann",
        "east is on fire",
        "Expected loss",
        "Forecast",
        "If nobody answers",
        "0 of 2 said yes",
        "app-east",
    ] {
        assert!(page.text.contains(words), "{words}: {}", page.text);
    }
    let own = ann
        .act("shop", &[("act", "approve"), ("ask", &question)])
        .await;
    assert!(own.contains("cannot approve what ann asked for"), "{own}");
    let yes = [
        ("act", "approve"),
        ("ask", question.as_str()),
        ("reason", "I see the smoke"),
    ];
    let first = ben.act("shop", &yes).await;
    assert!(first.contains("another person must approve"), "{first}");
    let again = ben.act("shop", &yes).await;
    assert!(
        again.contains("Not done.") && again.contains("ben has already approved"),
        "{again}"
    );
    assert_eq!(stand.effects(), "", "one person is not two");
    let mut cleo = Visitor::of(&url, "cleo").await;
    assert!(
        cleo.get("/services/shop")
            .await
            .text
            .contains("1 of 2 said yes: ben")
    );
    let second = cleo.act("shop", &yes).await;
    assert!(second.contains("Done."), "{second}");
    until("the run ends", || {
        stand.timeline().contains("run ended done")
    });
    assert_eq!(stand.effects(), "stop promote");
    let late = ben.act("shop", &yes).await;
    assert!(
        late.contains("no question"),
        "whoever comes late is told: {late}"
    );

    let page = ann.get("/services/shop").await.text;
    for words in ["failover shop-r", "✓", "step done", "served from west"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let timeline = ann.get("/services/shop/timeline").await.text;
    for words in ["ben approved", "cleo approved", "epoch 2 belongs to west"] {
        assert!(timeline.contains(words), "{words}: {timeline}");
    }
    assert_eq!(stand.leaks(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_do_is_done_at_the_desk() {
    let (stand, url) = desk().await;
    let mut ann = Visitor::of(&url, "ann").await;
    let mut say = async |fields: &[(&str, &str)]| ann.act("shop", fields).await;
    assert!(
        say(&[("act", "pause"), ("reason", "work on the network")])
            .await
            .contains("Done.")
    );
    assert!(stand.shows(&["status"]).contains("paused     by ann"));
    let twice = say(&[("act", "pause"), ("reason", "")]).await;
    assert!(twice.contains("say why"), "{twice}");
    assert!(say(&[("act", "resume")]).await.contains("Done."));
    assert!(
        say(&[("act", "note"), ("text", "<b>looked</b> at the router")])
            .await
            .contains("Done.")
    );
    assert!(stand.timeline().contains("<b>looked</b> at the router"));
    assert!(
        say(&[("act", "declare"), ("reason", "customers call")])
            .await
            .contains("Done.")
    );
    let duty = [("act", "duty"), ("duty", "scribe"), ("person", "cleo")];
    assert!(say(&duty).await.contains("Done."));
    assert!(
        say(&[("act", "resolve"), ("reason", "they were wrong")])
            .await
            .contains("Done.")
    );
    let timeline = stand.timeline();
    for words in ["customers call", "cleo", "they were wrong"] {
        assert!(timeline.contains(words), "{words}: {timeline}");
    }
    // The brake for all.
    let csrf = ann.get("/").await.csrf();
    let fields = [
        ("csrf", csrf.as_str()),
        ("act", "pause"),
        ("reason", "everything burns"),
    ];
    let braked = ann.post("/act", &fields).await;
    assert_eq!(braked.leads_to(), "/");
    assert!(
        ann.get("/")
            .await
            .text
            .contains("paused by ann: everything burns")
    );
    let page = ann.get("/services/shop").await.text;
    assert!(
        page.contains("&lt;b&gt;looked&lt;/b&gt;") && !page.contains("<b>looked"),
        "{page}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_looks_and_a_stranger_sees_nothing() {
    let mut stand = Stand::new().await;
    let viewer = stand
        .document()
        .replace("{name: ann,", "{name: ann, role: viewer,");
    let viewer = viewer.replace(
        "required: 2, approvers: [ann, ben, cleo]",
        "required: 1, approvers: [ben, cleo]",
    );
    stand.write(&viewer);
    stand.start(&["--desk-listen", "127.0.0.1:0"]);
    let url = address(&stand);
    let mut ann = Visitor::of(&url, "ann").await;
    let page = ann.get("/services/shop").await.text;
    assert!(
        page.contains("Your role here is viewer") && !page.contains("value=\"pause\""),
        "{page}"
    );
    let pause = ann.act("shop", &[("act", "pause"), ("reason", "x")]).await;
    assert!(pause.contains("Not done."), "{pause}");
    assert!(!stand.shows(&["status"]).contains("paused"));
    let unknown = ann.get("/services/shopp").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert!(
        unknown.text.contains("You may see shop"),
        "{}",
        unknown.text
    );

    for path in [
        "/",
        "/services/shop",
        "/services/shop/plan",
        "/services/shop/timeline",
        "/live",
    ] {
        let turned = Visitor::at(&url).get(path).await;
        assert_eq!(turned.status, StatusCode::SEE_OTHER, "{path}");
        assert!(
            turned.leads_to().starts_with("/login?next=%2F"),
            "{path}: {}",
            turned.leads_to()
        );
    }
    // A token that is taken out of the documents is out at once, in sessions as well.
    let others: Vec<_> = viewer
        .lines()
        .filter(|l| !l.contains("name: ann,"))
        .collect();
    let without = others.join("\n");
    stand.write(&without);
    let mut gone = false;
    for _ in 0..200 {
        gone = ann.get("/").await.status == StatusCode::SEE_OTHER;
        if gone {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(gone, "{}", stand.log());
    let again = Visitor::at(&url).login(token("ann"), "/").await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_is_begun_and_its_report_is_read_at_the_desk() {
    let mut stand = Stand::new().await;
    let drills = "  runbook: move\n  drills:\n    - {name: thought, depth: paper}\n";
    let document = stand.document().replacen("rto: 5m", "rto: 1h", 1);
    stand.write(&document.replacen("  runbook: move\n", drills, 1));
    stand.start(&["--desk-listen", "127.0.0.1:0"]);
    let url = address(&stand);
    let mut ann = Visitor::of(&url, "ann").await;
    let fields = [
        ("act", "drill"),
        ("policy", "thought"),
        ("reason", "it is Monday"),
    ];
    let begun = ann.act("shop", &fields).await;
    assert!(begun.contains("Done."), "{begun}");
    until("the drill ends", || stand.timeline().contains("thought"));
    let mut link = None;
    for _ in 0..200 {
        let page = ann.get("/services/shop").await.text;
        let at = page.split_once("href=\"/services/shop/drills/");
        link = at.map(|(_, rest)| rest.split_once('"').unwrap().0.to_owned());
        if link.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let id = link.expect("the page leads to the drill's report");
    let report = ann.get(&format!("/services/shop/drills/{id}")).await;
    assert_eq!(report.status, StatusCode::OK, "{}", report.text);
    let told = stand.json(&["report", &id]);
    let outcome = told["outcome"].as_str().unwrap();
    for words in [outcome, "it is Monday", "Recovery time", "asked for by"] {
        assert!(report.text.contains(words), "{words}: {}", report.text);
    }
    let none = ann.get("/services/shop/drills/shop-r9999").await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
}

/// Asks the API as one of the stand's people.
async fn api(
    url: &str,
    person: &str,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> (u16, Value) {
    let visitor = Visitor::at(url);
    let request = visitor.request(method, &format!("/api/v1{path}"));
    let request = request.bearer_auth(token(person));
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap())
}

/// The schema of what an operation gives.
fn given(document: &Value, path: &str, verb: &str) -> Value {
    let mut schema = document["paths"][format!("/api/v1{path}")][verb]["responses"]["200"]["content"]
        ["application/json"]["schema"]
        .clone();
    assert!(schema.is_object(), "{path}");
    schema["components"] = document["components"].clone();
    schema
}

fn fits(document: &Value, path: &str, verb: &str, value: &Value) {
    let mut schema = given(document, path, verb);
    let components = schema
        .as_object_mut()
        .unwrap()
        .remove("components")
        .unwrap();
    let root = json!({"components": components, "schema": schema});
    let faults = json_schema::faults_in(&root, &root["schema"], value);
    assert!(faults.is_empty(), "{path}: {faults:?}\n{value:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_does_what_the_pages_do_and_is_as_it_is_described() {
    let (stand, url) = desk().await;
    let anonymous = Visitor::at(&url).get("/api/v1/openapi.json").await;
    assert_eq!(anonymous.status, StatusCode::OK);
    let document: Value = serde_json::from_str(&anonymous.text).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let look = async |path: &str, described: &str| {
        let (status, value) = api(&url, "ann", Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {value}");
        fits(&document, described, "get", &value);
        value
    };
    let me = look("/me", "/me").await;
    assert_eq!(
        me,
        json!({"name": "ann", "services": [{"service": "shop", "approves": true}]})
    );
    assert_eq!(look("/services", "/services").await[0]["service"], "shop");
    let report = look("/services/shop", "/services/{service}").await;
    assert_eq!(report["components"][0]["verdict"], "healthy");
    let team = look("/services/shop/team", "/services/{service}/team").await;
    assert_eq!(team.as_array().unwrap().len(), 3);
    let records = look(
        "/services/shop/timeline?last=1",
        "/services/{service}/timeline",
    )
    .await;
    assert_eq!(records.as_array().unwrap().len(), 1);
    let plan = look(
        "/services/shop/plan?kind=failover",
        "/services/{service}/plan",
    )
    .await;
    assert_eq!(plan["plan"]["to"], "west");

    let act = async |person: &str, path: &str, body: Value| {
        api(&url, person, Method::POST, path, Some(body)).await
    };
    let open =
        json!({"open": {"kind": "failover", "to": null, "reason": "a test", "plan": plan["hash"]}});
    let commands = "/services/shop/commands";
    let (status, problem) = act("ann", commands, json!({"wish": open})).await;
    assert_eq!(status, 409, "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("has to be confirmed"),
        "{problem}"
    );
    assert!(problem["help"].is_string());
    let (status, done) = act("ann", commands, json!({"wish": open, "confirm": "west"})).await;
    assert_eq!(status, 200, "{done}");
    fits(&document, "/services/{service}/commands", "post", &done);
    let question = stand.question().unwrap();
    let report = look("/services/shop", "/services/{service}").await;
    assert_eq!(report["asks"][0]["id"], question.as_str());
    let deny = json!({"wish": {"deny": {"ask": question, "reason": "only a test"}}});
    let (status, tried) = act("ben", "/services/shop/commands/try", deny["wish"].clone()).await;
    assert_eq!((status, tried), (200, json!({"possible": true})));
    assert_eq!(act("ben", "/commands", deny.clone()).await.0, 200);
    let (status, problem) = act("ben", commands, deny).await;
    assert_eq!(status, 409, "{problem}");
    assert_eq!(stand.question(), None);

    let (status, items) = api(&url, "ann", Method::POST, "/services/shop/check", None).await;
    assert_eq!(status, 200, "{items}");
    fits(&document, "/services/{service}/check", "post", &items);
    let preview = json!({"phases": ["onStandby"]});
    let (status, messages) = act("ann", "/services/shop/preview", preview).await;
    assert_eq!(status, 200, "{messages}");
    assert_eq!(messages[0]["channel"], "hook");
    fits(&document, "/services/{service}/preview", "post", &messages);

    for (method, path, body, status) in [
        (Method::GET, "/services/shopp", None, 404),
        (Method::GET, "/nothing", None, 404),
        (Method::POST, "/services", None, 405),
        (Method::GET, "/services/shop/plan?kind=party", None, 400),
        (Method::POST, commands, Some(json!({"wish": "dance"})), 422),
    ] {
        let (said, problem) = api(&url, "ann", method, path, body).await;
        assert_eq!(said, status, "{path}: {problem}");
        assert_eq!(problem["status"], status);
        assert!(
            problem["title"].is_string() && problem["help"].is_string(),
            "{problem}"
        );
    }
    let mut stranger = Visitor::at(&url);
    let nobody = stranger.get("/api/v1/services").await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    assert_eq!(nobody.header("content-type"), "application/problem+json");
    assert!(nobody.header("www-authenticate").starts_with("Bearer"));
}

/// Reads a stream until a text has come.
async fn heard(mut stream: reqwest::Response, words: &str) -> String {
    let mut all = String::new();
    let reading = async {
        while let Some(bytes) = stream.chunk().await.unwrap() {
            all.push_str(&String::from_utf8_lossy(&bytes));
            if all.contains(words) {
                return;
            }
        }
    };
    let done = tokio::time::timeout(std::time::Duration::from_secs(30), reading).await;
    assert!(done.is_ok() && all.contains(words), "{words}: {all}");
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_seen_as_it_happens() {
    let (stand, url) = desk().await;
    let mut ann = Visitor::of(&url, "ann").await;
    let live = ann
        .request(Method::GET, "/live/services/shop")
        .send()
        .await
        .unwrap();
    assert_eq!(live.headers()[header::CONTENT_TYPE], "text/event-stream");
    let followed = ann.request(Method::GET, "/api/v1/events?service=shop");
    let followed = followed.send().await.unwrap();
    assert_eq!(followed.status(), StatusCode::OK);
    ann.act("shop", &[("act", "note"), ("text", "the lights went out")])
        .await;
    let parts = heard(live, "the lights went out").await;
    assert!(
        parts.contains("event: part") && parts.contains("\"id\":\"timeline\""),
        "{parts}"
    );
    let records = heard(followed, "the lights went out").await;
    assert!(records.contains("event: record"), "{records}");
    // Whoever logs out sees nothing more.
    let live = ann.request(Method::GET, "/live").send().await.unwrap();
    let csrf = ann.get("/").await.csrf();
    ann.post("/logout", &[("csrf", &csrf)]).await;
    heard(live, "event: over").await;
    drop(stand);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_hosts_get_tls_or_nothing() {
    let mut stand = Stand::new().await;
    let documents = stand.documents();
    let run = [
        "run",
        "-f",
        documents.to_str().unwrap(),
        "--desk-listen",
        "0.0.0.0:0",
    ];
    let refused = stand.cli(&run);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    assert!(
        text(&refused).contains("--desk-cert and --desk-key"),
        "{}",
        text(&refused)
    );

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    stand.file("chain.pem", &made.cert.pem());
    stand.file("key.pem", &made.signing_key.serialize_pem());
    let (chain, key) = (stand.path("chain.pem"), stand.path("key.pem"));
    let flags = [
        "--desk-listen",
        "0.0.0.0:0",
        "--desk-cert",
        chain.to_str().unwrap(),
        "--desk-key",
        key.to_str().unwrap(),
    ];
    stand.start(&flags);
    let url = address(&stand).replace("0.0.0.0", "localhost");
    assert!(url.starts_with("https://"), "{url}");
    let root = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let mut ann = Visitor::at(&url);
    ann.client = visitor::client().tls_certs_only([root]).build().unwrap();
    let entered = ann.login(token("ann"), "/").await;
    let cookie = entered.header("set-cookie");
    assert!(cookie.starts_with("__Host-failover="), "{cookie}");
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Strict", "; Secure"] {
        assert!(cookie.contains(part), "{part}: {cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
    let page = ann.get("/").await;
    assert_eq!(page.status, StatusCode::OK);
    // It would hold for the status page as well, which may have no TLS.
    assert_eq!(page.header("strict-transport-security"), "");
}
