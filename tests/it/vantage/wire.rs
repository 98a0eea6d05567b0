//! What the controller's listener takes and what it refuses, byte by byte.

use failover::{
    model::{secret::Secret, time::Time},
    vantage::{
        key::Key,
        message::{
            Begun, CHALLENGE, Hello, ObserverId, REPORT, Receipt, SESSION, SESSION_HEADER,
            SIGNATURE_HEADER, VANTAGE_HEADER,
        },
        signature::{Answer, Request},
    },
};
use serde_json::{Value, json};

use super::{KEY, Paris, Stand, figure, sight, until};

/// A request as it lies on the wire.
#[derive(Clone)]
struct Sent {
    path: &'static str,
    name: String,
    session: String,
    signature: String,
    body: Vec<u8>,
}

fn key(text: &str) -> Key {
    Key::new(Secret::new(text)).unwrap()
}

fn signed(path: &'static str, session: &str, body: &Value) -> Sent {
    signed_by(&key(KEY), "paris", path, session, body)
}

fn signed_by(key: &Key, name: &str, path: &'static str, session: &str, body: &Value) -> Sent {
    let body = serde_json::to_vec(body).unwrap();
    let request = Request {
        method: "POST",
        path,
        vantage: name,
        session,
        body: &body,
    };
    Sent {
        path,
        name: name.to_owned(),
        session: session.to_owned(),
        signature: request.sign(key),
        body: body.clone(),
    }
}

/// A stranger at the listener, who may hold a key.
struct Stranger {
    http: reqwest::Client,
    url: String,
}

impl Stranger {
    fn at(paris: &Paris) -> Self {
        Self {
            http: paris.client(),
            url: paris.url(),
        }
    }

    /// Status, body, and whether the answer is signed with the key.
    async fn send(&self, sent: &Sent) -> (u16, Vec<u8>, bool) {
        let request = self
            .http
            .post(format!("{}{}", self.url, sent.path))
            .header(VANTAGE_HEADER, &sent.name)
            .header(SESSION_HEADER, &sent.session)
            .header(SIGNATURE_HEADER, &sent.signature)
            .body(sent.body.clone());
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let given = answer.headers().get(SIGNATURE_HEADER).cloned();
        let body = answer.bytes().await.unwrap().to_vec();
        let proved = Answer {
            request: &sent.signature,
            status,
            body: &body,
        };
        let is_signed =
            given.is_some_and(|g| proved.is_signed(&key(KEY), g.to_str().unwrap_or_default()));
        (status, body, is_signed)
    }

    async fn challenge(&self) -> String {
        let answer = self.http.get(format!("{}{CHALLENGE}", self.url)).send();
        let answer: Value = answer.await.unwrap().json().await.unwrap();
        answer["challenge"].as_str().unwrap().to_owned()
    }

    async fn begin(&self) -> (Sent, Begun, Vec<u8>) {
        let sent = signed(SESSION, &self.challenge().await, &hello());
        let (status, body, is_signed) = self.send(&sent).await;
        assert_eq!((status, is_signed), (200, true));
        (sent, serde_json::from_slice(&body).unwrap(), body)
    }
}

fn hello() -> Value {
    let hello = Hello {
        observer: ObserverId("0123".to_owned()),
        version: "0.0.1".to_owned(),
        wall: Time::from_millis(0),
        commands: false,
    };
    serde_json::to_value(hello).unwrap()
}

fn report(begun: &Begun, number: u64, looks: &Value) -> Value {
    json!({
        "number": number,
        "answered": number - 1,
        "since": "0s",
        "revision": begun.revision,
        "wall": "2020-01-01T00:00:00Z",
        "looks": looks,
    })
}

fn look(number: u64, age: &str, probe: &str, sight: &str) -> Value {
    json!({
        "number": number, "age": age, "service": "shop", "probe": probe, "sight": sight, "detail": "as told",
    })
}

async fn stage() -> (Stand, Paris, Stranger) {
    let mut stand = Stand::new().await;
    let paris = Paris::of(&stand, "");
    // Looks count for long enough to be asked for.
    let document = Paris::document(&stand, "");
    let patient = document.replace("every: 500ms, timeout: 450ms", "every: 20s, timeout: 2s");
    assert_ne!(patient, document);
    stand.write(&patient);
    paris.controller(&mut stand, "\"shop\"");
    let stranger = Stranger::at(&paris);
    (stand, paris, stranger)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replayed_reordered_or_altered_is_refused_and_counted() {
    let (stand, _paris, stranger) = stage().await;
    let (beginning, begun, _) = stranger.begin().await;
    let send = async |number, looks: Value| {
        let sent = signed(REPORT, &begun.session.0, &report(&begun, number, &looks));
        (stranger.send(&sent).await, sent)
    };
    let ((status, body, is_signed), first) =
        send(1, json!([look(1, "0s", "app-east", "up")])).await;
    assert_eq!((status, is_signed), (200, true));
    let receipt: Receipt = serde_json::from_slice(&body).unwrap();
    assert_eq!((receipt.taken, receipt.changed), (1, false));
    until("the look is there", || {
        sight(&stand, "paris", "app-east") == "up"
    });

    // Replayed, and overtaken.
    assert_eq!(stranger.send(&first).await.0, 409);
    let ((status, ..), _) = send(7, json!([])).await;
    assert_eq!(status, 200);
    let ((status, ..), _) = send(6, json!([])).await;
    assert_eq!(status, 409);
    // A recorded beginning begins nothing.
    assert_eq!(stranger.send(&beginning).await.0, 409);

    // Altered anywhere.
    let (_, good) = send(8, json!([look(2, "0s", "app-east", "down")])).await;
    let alterations: [fn(&mut Sent); 5] = [
        |s| s.body[10] ^= 1,
        |s| s.session.push('0'),
        |s| s.name = "tokyo".to_owned(),
        |s| {
            let other = if s.signature.starts_with('0') {
                "1"
            } else {
                "0"
            };
            s.signature.replace_range(0..1, other);
        },
        |s| s.path = SESSION,
    ];
    for alter in alterations {
        let mut altered = good.clone();
        alter(&mut altered);
        let (status, _, is_signed) = stranger.send(&altered).await;
        assert_eq!((status, is_signed), (401, false));
    }
    // A session that is over, and one that never was.
    let (_, anew, _) = stranger.begin().await;
    let ((status, ..), _) = send(9, json!([])).await;
    assert_eq!(status, 409);
    let never = signed(REPORT, "0123", &report(&anew, 1, &json!([])));
    assert_eq!(stranger.send(&never).await.0, 409);
    // Signed, but no message.
    let (status, ..) = stranger
        .send(&signed(REPORT, &anew.session.0, &json!({})))
        .await;
    assert_eq!(status, 400);

    for (reason, times) in [
        ("number", 2.0),
        ("session", 3.0),
        ("signature", 5.0),
        ("shape", 1.0),
    ] {
        let series = format!("failover_vantage_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(figure(&stand, &series).await, Some(times), "{reason}");
    }
    let lines = stand.log().matches("was refused").count();
    assert_eq!(lines, 4, "one line a reason: {}", stand.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_reports_its_own_probes_and_fresh_looks_only() {
    let (stand, _paris, stranger) = stage().await;
    let (_, begun, _) = stranger.begin().await;
    let looks = json!([
        look(1, "1h", "app-east", "down"),
        look(2, "0s", "not-assigned", "down"),
        look(3, "0s", "app-east", "up"),
        look(3, "0s", "app-east", "down"),
    ]);
    let sent = signed(REPORT, &begun.session.0, &report(&begun, 1, &looks));
    let (status, body, _) = stranger.send(&sent).await;
    let receipt: Receipt = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, receipt.taken), (200, 1));
    for reason in ["stale", "notAssigned", "repeated"] {
        let series = format!(
            "failover_vantage_looks_dropped_total{{vantage=\"paris\",reason=\"{reason}\"}}"
        );
        assert_eq!(figure(&stand, &series).await, Some(1.0), "{reason}");
    }
    until("the fresh look is there", || {
        sight(&stand, "paris", "app-east") == "up"
    });
    // Under another assignment than this nothing is taken, and the observer is told of it.
    let mut other = report(&begun, 2, &json!([look(4, "0s", "app-east", "down")]));
    other["revision"] = json!("0123");
    let (_, body, _) = stranger
        .send(&signed(REPORT, &begun.session.0, &other))
        .await;
    let receipt: Receipt = serde_json::from_slice(&body).unwrap();
    assert_eq!((receipt.taken, receipt.changed), (0, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_do_not_tell_which_names_there_are() {
    let (_stand, _paris, stranger) = stage().await;
    let wrong = key(&KEY.chars().rev().collect::<String>());
    let challenge = stranger.challenge().await;
    let mut answers = Vec::new();
    for name in ["paris", "here", "tokyo", ""] {
        let sent = signed_by(&wrong, name, SESSION, &challenge, &hello());
        answers.push(stranger.send(&sent).await);
    }
    assert_eq!(answers[0].0, 401);
    assert!(answers.iter().all(|a| *a == answers[0]), "{answers:?}");
    // The controller's own vantage point has no key that could be guessed.
    let sent = signed_by(&key(KEY), "here", SESSION, &challenge, &hello());
    assert_eq!(stranger.send(&sent).await.0, 401);
    // Nothing but the three paths is there, and no large body.
    let other = stranger
        .http
        .get(format!("{}/metrics", stranger.url))
        .send();
    assert_eq!(other.await.unwrap().status().as_u16(), 404);
    let mut large = signed(REPORT, "0123", &json!({}));
    large.body = vec![b' '; 600 * 1024];
    assert_eq!(stranger.send(&large).await.0, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_holds_no_command_and_no_secret() {
    let mut stand = Stand::new().await;
    let paris = Paris::of(&stand, "");
    let document = Paris::document(&stand, "").replacen(
        "- {id: app-east,",
        "- {id: own, uses: probe/command, every: 500ms, with: {run: [/bin/secret-program]}}\n        - {id: app-east,",
        1,
    );
    stand.write(&document);
    paris.controller(&mut stand, "\"shop\"");
    let stranger = Stranger::at(&paris);
    let (_, begun, body) = stranger.begin().await;
    assert_eq!(begun.services[0].probes.len(), 3);
    let text = String::from_utf8(body).unwrap();
    assert!(
        text.contains("probe/command") && !text.contains("secret-program"),
        "{text}"
    );
    assert!(!text.contains(KEY));

    let mut hello = hello();
    hello["commands"] = json!(true);
    let sent = signed(SESSION, &stranger.challenge().await, &hello);
    let (_, body, _) = stranger.send(&sent).await;
    assert!(String::from_utf8(body).unwrap().contains("secret-program"));
}
