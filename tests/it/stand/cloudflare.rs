//! Cloudflare's API v4 as far as DNS records go, with its errors, its limit, its transactions and its moods.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, patch, post},
};
use serde_json::{Value, json};

/// The zone's id.
pub const ZONE: &str = "0123456789abcdef0123456789abcdef";

/// A token that may read and edit.
pub const TOKEN: &str = "edit-token-Zm9vYmFy";

/// A token that may only read.
pub const READER: &str = "read-token-Zm9vYmFy";

/// What happens to the next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As it should be.
    Well,
    /// It is made, but no answer comes.
    SilentAfter,
    /// It is made, and the answer is status 502 of something in between.
    BadGatewayAfter,
    /// It is not made, and no answer comes.
    SilentBefore,
}

#[derive(Default)]
struct World {
    zone: String,
    records: Vec<Value>,
    ids: u32,
    mood: Option<Mood>,
    blocked: Option<u64>,
    calls: Vec<String>,
    expires: Option<String>,
    /// Done right after the next list was read, as somebody else would.
    meddling: Option<(String, String)>,
}

type Shared = Arc<Mutex<World>>;

/// The running stand-in. It ends with the test's runtime.
pub struct Cloudflare {
    world: Shared,
    /// Base URL.
    pub url: String,
}

impl Cloudflare {
    /// Starts it with the zone `demo.test`.
    pub async fn start() -> Self {
        let stand = Self::with_zone("demo.test").await;
        for (kind, name, content) in [
            ("A", "app", "192.0.2.1"),
            ("A", "app", "192.0.2.2"),
            ("TXT", "app", "stays as it is"),
            ("CNAME", "www", "app.demo.test"),
            ("A", "other", "192.0.2.99"),
        ] {
            stand.add(kind, &format!("{name}.demo.test"), content, 300, false);
        }
        stand.world.lock().unwrap().records.push(json!({
            "id": "caa", "type": "CAA", "name": "demo.test", "ttl": 1, "proxied": null,
            "data": {"flags": 0, "tag": "issue", "value": "ca.example"}
        }));
        stand
    }

    /// Starts it with an empty zone of this name.
    pub async fn with_zone(name: &str) -> Self {
        let world = Shared::default();
        name.clone_into(&mut world.lock().unwrap().zone);
        let zone = "/client/v4/zones/{zone}";
        let app = Router::new()
            .route("/client/v4/user/tokens/verify", get(verify))
            .route("/client/v4/zones", get(zones))
            .route(zone, get(one_zone))
            .route(&format!("{zone}/dns_records"), get(list))
            .route(&format!("{zone}/dns_records/batch"), post(batch))
            .route(&format!("{zone}/dns_records/{{id}}"), patch(patch_one))
            .layer(middleware::from_fn_with_state(world.clone(), gate))
            .with_state(world.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            world,
            url: format!("http://{address}/client/v4"),
        }
    }

    /// Adds a record.
    pub fn add(&self, kind: &str, name: &str, content: &str, ttl: u32, proxied: bool) {
        let mut world = self.world.lock().unwrap();
        let id = fresh(&mut world);
        let ttl = if proxied { 1 } else { ttl };
        world.records.push(json!({
            "id": id, "type": kind, "name": name, "content": content, "ttl": ttl,
            "proxied": proxied, "comment": "by hand", "meta": {}, "settings": {},
        }));
    }

    /// What the zone holds: `type name content ttl`, sorted.
    pub fn records(&self) -> Vec<String> {
        let world = self.world.lock().unwrap();
        let mut records: Vec<String> = world
            .records
            .iter()
            .map(|r| {
                let field = |f: &str| r[f].as_str().unwrap_or_default().to_owned();
                let (kind, name, content) = (field("type"), field("name"), field("content"));
                format!("{kind} {name} {content} {}", r["ttl"])
            })
            .collect();
        records.sort();
        records
    }

    /// The next write meets this mood.
    pub fn mood(&self, mood: Mood) {
        self.world.lock().unwrap().mood = Some(mood);
    }

    /// Blocks every call, as after too many of them.
    pub fn block(&self, seconds: u64) {
        self.world.lock().unwrap().blocked = Some(seconds);
    }

    /// The block is over.
    pub fn unblock(&self) {
        self.world.lock().unwrap().blocked = None;
    }

    /// How often it was called.
    pub fn calls(&self) -> usize {
        self.world.lock().unwrap().calls.len()
    }

    /// When the token ends.
    pub fn expires(&self, at: &str) {
        self.world.lock().unwrap().expires = Some(at.to_owned());
    }

    /// Right after the next list, somebody else changes the record with the one content to the other.
    pub fn meddle(&self, from: &str, to: &str) {
        self.world.lock().unwrap().meddling = Some((from.to_owned(), to.to_owned()));
    }
}

fn fresh(world: &mut World) -> String {
    world.ids += 1;
    format!("{:032x}", world.ids)
}

fn fine(result: &Value) -> Response {
    Json(json!({"success": true, "errors": [], "messages": [], "result": result})).into_response()
}

fn wrong(status: StatusCode, code: i64, message: &str) -> Response {
    let body = json!({"success": false, "errors": [{"code": code, "message": message}],
                      "messages": [], "result": null});
    (status, Json(body)).into_response()
}

fn token(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .strip_prefix("Bearer ")
}

/// The limit and the credential come before everything else.
async fn gate(State(world): State<Shared>, request: Request, next: Next) -> Response {
    let blocked = {
        let mut world = world.lock().unwrap();
        let call = format!("{} {}", request.method(), request.uri().path());
        world.calls.push(call);
        world.blocked
    };
    if let Some(seconds) = blocked {
        let mut response = wrong(
            StatusCode::TOO_MANY_REQUESTS,
            971,
            "Please wait and consider throttling your request speed",
        );
        let wait = seconds.to_string().parse().unwrap();
        response.headers_mut().insert(header::RETRY_AFTER, wait);
        return response;
    }
    let token = token(request.headers()).unwrap_or_default();
    if token != TOKEN && token != READER {
        if request.uri().path().ends_with("/verify") {
            return wrong(StatusCode::UNAUTHORIZED, 1000, "Invalid API Token");
        }
        return wrong(StatusCode::FORBIDDEN, 10000, "Authentication error");
    }
    let writes = !request.method().is_safe();
    if writes && token == READER {
        return wrong(StatusCode::FORBIDDEN, 10000, "Authentication error");
    }
    next.run(request).await
}

async fn verify(State(world): State<Shared>) -> Response {
    let expires = world.lock().unwrap().expires.clone();
    fine(
        &json!({"id": "ed17574386854bf78a67040be0a770b0", "status": "active", "expires_on": expires}),
    )
}

async fn zones(
    State(world): State<Shared>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let world = world.lock().unwrap();
    let found = query.get("name").is_some_and(|n| *n == world.zone);
    let zones = if found { vec![zone(&world)] } else { vec![] };
    fine(&json!(zones))
}

fn zone(world: &World) -> Value {
    json!({"id": ZONE, "name": world.zone, "status": "active", "plan": {"legacy_id": "free"}})
}

async fn one_zone(State(world): State<Shared>, Path(id): Path<String>) -> Response {
    if id == ZONE {
        fine(&zone(&world.lock().unwrap()))
    } else {
        wrong(StatusCode::NOT_FOUND, 1001, "Invalid zone identifier")
    }
}

async fn list(
    State(world): State<Shared>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let mut world = world.lock().unwrap();
    let fits = |record: &Value, field: &str| {
        query
            .get(field)
            .is_none_or(|wanted| record[field] == json!(wanted))
    };
    let records: Vec<Value> = world
        .records
        .iter()
        .filter(|r| fits(r, "name") && fits(r, "type"))
        .cloned()
        .collect();
    let number = |field: &str, default: usize| {
        query
            .get(field)
            .and_then(|v| v.parse().ok())
            .unwrap_or(default)
    };
    let (page, size) = (number("page", 1), number("per_page", 20).clamp(1, 100));
    let rows: Vec<&Value> = records.iter().skip((page - 1) * size).take(size).collect();
    let body = json!({
        "success": true, "errors": [], "messages": [], "result": rows,
        "result_info": {"page": page, "per_page": size, "count": rows.len(),
            "total_count": records.len(), "total_pages": records.len().div_ceil(size)}
    });
    if let Some((from, to)) = world.meddling.take() {
        for record in &mut world.records {
            if record["content"] == json!(from) {
                record["content"] = json!(to);
            }
        }
    }
    Json(body).into_response()
}

async fn patch_one(
    State(world): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let changes: Value = serde_json::from_slice(&body).unwrap();
    let mut world = world.lock().unwrap();
    let records = &mut world.records;
    match records.iter_mut().find(|r| r["id"] == json!(id)) {
        Some(record) => {
            change(record, &changes);
            let record = record.clone();
            fine(&record)
        }
        None => wrong(StatusCode::NOT_FOUND, 81044, "Record does not exist."),
    }
}

fn change(record: &mut Value, changes: &Value) {
    for (field, value) in changes.as_object().unwrap() {
        record[field] = value.clone();
    }
}

async fn batch(State(world): State<Shared>, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let (mood, result) = {
        let mut world = world.lock().unwrap();
        let mood = world.mood.take().unwrap_or(Mood::Well);
        let result = if mood == Mood::SilentBefore {
            Ok(())
        } else {
            transact(&mut world, &body)
        };
        (mood, result)
    };
    match (mood, result) {
        (Mood::SilentAfter | Mood::SilentBefore, _) => std::future::pending().await,
        (Mood::BadGatewayAfter, _) => {
            (StatusCode::BAD_GATEWAY, "<html>bad gateway</html>").into_response()
        }
        (Mood::Well, Ok(())) => fine(&json!({})),
        (Mood::Well, Err((status, code, message))) => wrong(status, code, message),
    }
}

type Refusal = (StatusCode, i64, &'static str);

/// Deletions, changes, additions; all or nothing.
fn transact(world: &mut World, body: &Value) -> Result<(), Refusal> {
    const GONE: Refusal = (StatusCode::NOT_FOUND, 81044, "Record does not exist.");
    let mut records = world.records.clone();
    let of = |what: &str| body[what].as_array().cloned().unwrap_or_default();
    for one in of("deletes") {
        let before = records.len();
        records.retain(|r| r["id"] != one["id"]);
        if records.len() == before {
            return Err(GONE);
        }
    }
    for one in of("patches") {
        let at = records
            .iter()
            .position(|r| r["id"] == one["id"])
            .ok_or(GONE)?;
        let mut record = records.remove(at);
        change(&mut record, &one);
        allowed(&records, &record)?;
        records.insert(at, record);
    }
    for mut one in of("posts") {
        one["id"] = json!(fresh(world));
        allowed(&records, &one)?;
        records.push(one);
    }
    world.records = records;
    Ok(())
}

fn allowed(records: &[Value], new: &Value) -> Result<(), Refusal> {
    let bad = StatusCode::BAD_REQUEST;
    let ttl = new["ttl"].as_u64().unwrap_or(1);
    if ttl != 1 && !(60..=86400).contains(&ttl) {
        return Err((
            bad,
            9021,
            "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic.",
        ));
    }
    let here = || records.iter().filter(|r| r["name"] == new["name"]);
    let address = |r: &Value| r["type"] == "A" || r["type"] == "AAAA";
    if new["type"] == "CNAME" && here().any(|r| address(r) || r["type"] == "CNAME") {
        return Err((
            bad,
            81053,
            "An A, AAAA, or CNAME record with that host already exists.",
        ));
    }
    if address(new) && here().any(|r| r["type"] == "CNAME") {
        return Err((bad, 81054, "A CNAME record with that host already exists."));
    }
    if here().any(|r| r["type"] == new["type"] && r["content"] == new["content"]) {
        return Err((bad, 81058, "An identical record already exists."));
    }
    Ok(())
}
