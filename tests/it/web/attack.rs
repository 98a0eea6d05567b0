//! What an attacker tries: other sites' forms, sessions of their own making, links that lead away, headers in values,
//! and guessing.

use super::{Method, Stand, StatusCode, Visitor, desk, header, token};

/// The fields that pause the shop, with what the session's forms carry.
fn pause(csrf: &str) -> Vec<(&'static str, String)> {
    vec![
        ("csrf", csrf.to_owned()),
        ("act", "pause".to_owned()),
        ("reason", "an attack".to_owned()),
    ]
}

fn is_paused(stand: &Stand) -> bool {
    stand.shows(&["status"]).contains("paused")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_site_acts_in_somebodys_name() {
    let (stand, url) = desk().await;
    let mut ann = Visitor::of(&url, "ann").await;
    let csrf = ann.get("/services/shop").await.csrf();
    let mut ben = Visitor::of(&url, "ben").await;
    let bens = ben.get("/services/shop").await.csrf();
    assert_ne!(csrf, bens);
    let path = "/services/shop/act";
    let from = |name: &'static str, value: &str| vec![(name, value.to_owned())];
    let attacks = [
        ("nothing of a form", from("origin", &url), String::new()),
        ("another's form", from("origin", &url), bens),
        (
            "another origin",
            from("origin", "https://evil.example"),
            csrf.clone(),
        ),
        ("no origin at all", from("origin", "null"), csrf.clone()),
        (
            "another site",
            from("sec-fetch-site", "cross-site"),
            csrf.clone(),
        ),
        (
            "a sister site",
            from("sec-fetch-site", "same-site"),
            csrf.clone(),
        ),
    ];
    for (what, headers, csrf) in attacks {
        let mut request = ann.request(Method::POST, path).form(&pause(&csrf));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let refused = ann.send(request).await;
        assert_eq!(
            refused.status,
            StatusCode::FORBIDDEN,
            "{what}: {}",
            refused.text
        );
        assert!(!is_paused(&stand), "{what}");
    }
    // The API takes no session without the header that only the desk's own pages can send.
    let wish = serde_json::json!({"wish": {"pause": {"reason": "an attack"}}});
    let request = ann
        .request(Method::POST, "/api/v1/services/shop/commands")
        .json(&wish);
    let refused = ann.send(request).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    // Nor does anybody log somebody in or out.
    let entry = ann
        .request(Method::POST, "/login")
        .header("sec-fetch-site", "cross-site");
    let refused = ann.send(entry.form(&[("token", token("ben"))])).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let leave = ann
        .request(Method::POST, "/logout")
        .header(header::ORIGIN, &url);
    let refused = ann.send(leave.form(&[("csrf", "wrong")])).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(ann.get("/").await.status, StatusCode::OK);
    assert!(!is_paused(&stand));
    // The same, done rightly, works: the refusals above had their reasons.
    let request = ann.request(Method::POST, path).form(&pause(&csrf));
    let done = ann
        .send(request.header("sec-fetch-site", "same-origin"))
        .await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    assert!(is_paused(&stand));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_the_desks_own_and_ends() {
    let (_stand, url) = desk().await;
    let mut ann = Visitor::at(&url);
    // A session that somebody else put into the browser is not taken up.
    ann.cookies
        .insert("failover".to_owned(), "of-the-attacker".to_owned());
    let entered = ann.login(token("ann"), "/").await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER);
    let first = ann.cookies["failover"].clone();
    assert_ne!(first, "of-the-attacker");
    assert!(first.len() >= 43, "256 bits: {first}");
    let cookie = entered.header("set-cookie");
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Strict"] {
        assert!(cookie.contains(part), "{part}: {cookie}");
    }
    // Each login makes another, and the one before is over.
    ann.login(token("ann"), "/").await;
    assert_ne!(ann.cookies["failover"], first);
    let mut old = Visitor::at(&url);
    old.cookies.insert("failover".to_owned(), first);
    assert_eq!(old.get("/").await.status, StatusCode::SEE_OTHER);
    // After logging out the cookie is worth nothing, wherever it was kept.
    let kept = ann.cookies["failover"].clone();
    let csrf = ann.get("/").await.csrf();
    ann.post("/logout", &[("csrf", &csrf)]).await;
    assert!(!ann.cookies.contains_key("failover"));
    old.cookies.insert("failover".to_owned(), kept);
    assert_eq!(old.get("/").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_link_leads_away_and_no_value_becomes_a_header() {
    let (_stand, url) = desk().await;
    for next in [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "/x\r\nSet-Cookie: failover=stolen",
        "javascript:alert(1)",
        "/logout",
    ] {
        let mut ann = Visitor::at(&url);
        let query = reqwest::Url::parse_with_params(&format!("{url}/login"), [("next", next)]);
        let query = query.unwrap();
        let form = ann.get(&format!("/login?{}", query.query().unwrap())).await;
        assert_eq!(form.field("next"), "/", "{next:?}");
        let entered = ann.login(token("ann"), next).await;
        assert_eq!(entered.leads_to(), "/", "{next:?}");
        assert_eq!(entered.headers.get_all("set-cookie").iter().count(), 1);
        let csrf = ann.get("/services/shop").await.csrf();
        let fields = [("csrf", csrf.as_str()), ("act", "resume"), ("back", next)];
        let done = ann.post("/services/shop/act", &fields).await;
        assert_eq!(done.leads_to(), "/", "{next:?}");
    }
    let mut ann = Visitor::at(&url);
    assert_eq!(
        ann.login(token("ann"), "/services/shop").await.leads_to(),
        "/services/shop"
    );
    for path in [
        "/services/shop%0d%0aSet-Cookie:%20a=b",
        "/services/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "/nothing%0d%0aX-Evil:%201",
    ] {
        let odd = ann.get(path).await;
        assert_eq!(odd.status, StatusCode::NOT_FOUND, "{path}");
        assert!(odd.headers.get("x-evil").is_none() && odd.headers.get("set-cookie").is_none());
        assert!(!odd.text.contains("<script>alert"), "{}", odd.text);
    }
    // A link in a letter: the browser sends no cookie, so the desk's own page leads on, and nowhere else.
    let request = Visitor::at(&url).request(Method::GET, "/services/shop");
    let led = ann
        .send(request.header("sec-fetch-site", "cross-site"))
        .await;
    assert!(
        led.text.contains("content=\"0;url=/services/shop\""),
        "{}",
        led.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_closed_to_other_sites() {
    let (_stand, url) = desk().await;
    let mut ann = Visitor::of(&url, "ann").await;
    for path in [
        "/",
        "/login",
        "/nothing",
        "/services/shop",
        "/api/v1/me",
        "/api/v1/nothing",
        "/desk.css",
    ] {
        let seen = ann.get(path).await;
        let policy = seen.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "form-action 'self'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {part}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(seen.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(seen.header("referrer-policy"), "same-origin", "{path}");
        let cache = if path == "/desk.css" {
            "private, max-age=60"
        } else {
            "no-store"
        };
        assert_eq!(seen.header("cache-control"), cache, "{path}");
        assert!(
            seen.headers.get("access-control-allow-origin").is_none(),
            "{path}"
        );
    }
    // Nothing on a page stands in the way of that policy.
    let page = ann.get("/services/shop").await.text;
    assert!(
        !page.contains(" style=") && !page.contains(" onclick="),
        "{page}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_slow_and_stops_nobody_else() {
    let (stand, url) = desk().await;
    let mut guesser = Visitor::at(&url);
    for n in 0..5 {
        let wrong = guesser.login(&format!("fot_guess-{n}"), "/").await;
        assert_eq!(wrong.status, StatusCode::UNAUTHORIZED, "{n}");
        assert!(
            wrong.text.contains("This token is nobody"),
            "{}",
            wrong.text
        );
        let request = guesser
            .request(Method::GET, "/api/v1/me")
            .bearer_auth("fot_guess");
        assert_eq!(
            guesser.send(request).await.status,
            StatusCode::UNAUTHORIZED,
            "{n}"
        );
    }
    let refused = guesser.login(token("ann"), "/").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let request = guesser
        .request(Method::GET, "/api/v1/me")
        .bearer_auth(token("ann"));
    assert_eq!(
        guesser.send(request).await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    // A proxy of this host says who comes; what they say themselves stands before that.
    let request = guesser
        .request(Method::GET, "/api/v1/me")
        .bearer_auth(token("ann"));
    let request = request.header("x-forwarded-for", "127.0.0.1, 203.0.113.7");
    assert_eq!(guesser.send(request).await.status, StatusCode::OK);
    let request = guesser
        .request(Method::GET, "/api/v1/me")
        .bearer_auth(token("ann"));
    let request = request.header("x-forwarded-for", "203.0.113.7, 127.0.0.1");
    assert_eq!(
        guesser.send(request).await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    assert_eq!(stand.leaks(), [""; 0]);
}
