//! `probe/http` against hosts of all manners.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use failover::model::{
    observation::Sight::{Down, Unknown, Up},
    service::Via,
    span::Span,
    time::Time,
};
use jiff::{ToSpan, civil::Date, tz::TimeZone};
use serde_json::json;

use super::{Vault, look, look_for, probe, probe_with, seen};
use crate::stand::{
    authority::Authority,
    host::{ClosedPort, Host, http},
};

const LONG: (i32, u8, u8) = (2090, 1, 1);

#[tokio::test]
async fn a_right_answer_is_up_with_its_times() {
    let host = Host::saying(http("200 OK", "", "fine")).await;
    let look = look(&probe("probe/http", &json!({"url": host.url()}))).await;
    assert!(seen(&look, Up).starts_with("HTTP 200 in "));
    let times = look.facts.http.unwrap();
    assert!(times.connect_us > 0 && times.first_byte_us > 0, "{times:?}");
    assert_eq!(times.tls_us, 0);
    assert!(look.latency.is_some());
    assert_eq!(look.facts.certificate_expires, None);
}

#[tokio::test]
async fn a_status_is_right_only_where_the_document_says_so() {
    let host = Host::saying(http("503 Service Unavailable", "", "")).await;
    let look_at = async |with| look(&probe("probe/http", &with)).await;
    let down = look_at(json!({"url": host.url()})).await;
    assert!(seen(&down, Down).starts_with("HTTP 503 in "));
    let up = look_at(json!({"url": host.url(), "status": ["2xx", 503]})).await;
    seen(&up, Up);
}

#[tokio::test]
async fn a_refusal_is_down() {
    let port = ClosedPort::new();
    let with = json!({"url": format!("http://{}/", port.address)});
    let look = look(&probe("probe/http", &with)).await;
    assert_eq!(seen(&look, Down), "connection refused");
}

#[tokio::test]
async fn silence_is_down_and_says_how_far_it_came() {
    let host = Host::silent().await;
    let timeout = Span::from_millis(300);
    for (scheme, stage) in [
        ("http", "connected, request sent"),
        ("https", "connected, TLS handshake begun"),
    ] {
        let with = json!({"url": format!("{scheme}://{}/", host.address)});
        let look = look_for(&probe("probe/http", &with), Via::Direct, timeout).await;
        assert_eq!(
            seen(&look, Down),
            format!("no answer within 300 ms ({stage})")
        );
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_down() {
    let host = Host::saying("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
    let look = look(&probe("probe/http", &json!({"url": host.url()}))).await;
    assert_eq!(seen(&look, Down), "the answer broke off after 4 bytes");
}

#[tokio::test]
async fn a_body_is_judged_within_its_first_64_kib() {
    let text = format!("status: ok{}tail", " ".repeat(70_000));
    let host = Host::saying(http("200 OK", "", &text)).await;
    let look_for = async |body| {
        let with = json!({"url": host.url(), "body": body});
        look(&probe("probe/http", &with)).await
    };
    seen(&look_for(json!({"contains": ["status: ok"]})).await, Up);
    let missing = look_for(json!({"contains": ["tail"]})).await;
    assert!(seen(&missing, Down).ends_with("but the body does not hold \"tail\""));
    let found = look_for(json!({"notContains": ["ok"]})).await;
    assert!(seen(&found, Down).ends_with("but the body holds \"ok\""));
}

#[tokio::test]
async fn redirects_are_followed_as_far_as_allowed() {
    let host = Host::answering(|head| match head.split(' ').nth(1) {
        Some("/a") => http("302 Found", "Location: /b\r\n", ""),
        Some("/b") => http("301 Moved", "Location: c?x=1\r\n", ""),
        Some("/c?x=1") => http("200 OK", "", "there"),
        _ => http("404 Not Found", "", ""),
    })
    .await;
    let look_at = async |follow| {
        let with = json!({"url": format!("{}a", host.url()), "followRedirects": follow});
        look(&probe("probe/http", &with)).await
    };
    assert!(seen(&look_at(0).await, Down).starts_with("HTTP 302 in "));
    assert_eq!(seen(&look_at(1).await, Down), "more than 1 redirects");
    assert!(seen(&look_at(2).await, Up).starts_with("HTTP 200 in "));
}

#[tokio::test]
async fn a_secret_header_goes_to_its_own_origin_only() {
    let elsewhere = Arc::new(Mutex::new(String::new()));
    let heard = elsewhere.clone();
    let other = Host::answering(move |head| {
        head.clone_into(&mut heard.lock().unwrap());
        http("200 OK", "", "")
    })
    .await;
    let location = format!("Location: {}\r\n", other.url());
    let host = Host::answering(move |head| {
        if head.to_lowercase().contains("authorization: bearer s3cr3t") {
            http("302 Found", &location, "")
        } else {
            http("401 Unauthorized", "", "")
        }
    })
    .await;
    let with = json!({
        "url": host.url(),
        "followRedirects": 1,
        "headers": {"Authorization": {"secret": {"env": "TOKEN"}, "prefix": "Bearer "}},
    });
    let vault = Vault(Mutex::new(BTreeMap::from([(
        "TOKEN".to_owned(),
        "s3cr3t".to_owned(),
    )])));
    let up = look(&probe_with("probe/http", &with, vault)).await;
    seen(&up, Up);
    let heard = elsewhere.lock().unwrap().to_lowercase();
    assert!(
        heard.starts_with("get / http/1.1") && !heard.contains("authorization"),
        "{heard}"
    );

    let unreadable = look(&probe("probe/http", &with)).await;
    assert!(seen(&unreadable, Unknown).contains("TOKEN"));
}

fn https(host: &Host, tls: &serde_json::Value) -> serde_json::Value {
    json!({"url": format!("https://{}/", host.address), "tls": tls})
}

#[tokio::test]
async fn a_trusted_certificate_is_up_with_its_end() {
    let authority = Authority::new();
    let config = authority.server("shop.example", (2020, 1, 1), LONG);
    let host = Host::saying_over_tls(config, "HTTP/1.1 204 No Content\r\n\r\n").await;
    let tls = json!({"serverName": "shop.example", "ca": authority.path()});
    let look = look(&probe("probe/http", &https(&host, &tls))).await;
    assert!(seen(&look, Up).starts_with("HTTP 204 in "));
    assert_eq!(
        look.facts.certificate_expires,
        Some(Time::parse("2090-01-01T00:00:00Z").unwrap())
    );
    assert!(look.facts.http.unwrap().tls_us > 0);
}

#[tokio::test]
async fn a_certificate_that_customers_would_refuse_is_down() {
    let authority = Authority::new();
    let good = authority.server("shop.example", (2020, 1, 1), LONG);
    let old = authority.server("shop.example", (2020, 1, 1), (2021, 1, 1));
    let (good, old) = (
        Host::saying_over_tls(good, "HTTP/1.1 204 No Content\r\n\r\n").await,
        Host::saying_over_tls(old, "HTTP/1.1 204 No Content\r\n\r\n").await,
    );
    let stranger = Authority::new();
    for (host, tls, words) in [
        (
            &good,
            json!({"serverName": "other.example", "ca": authority.path()}),
            "not valid for name",
        ),
        (
            &good,
            json!({"serverName": "shop.example", "ca": stranger.path()}),
            "UnknownIssuer",
        ),
        (
            &old,
            json!({"serverName": "shop.example", "ca": authority.path()}),
            "expired",
        ),
    ] {
        let look = look(&probe("probe/http", &https(host, &tls))).await;
        assert!(seen(&look, Down).contains(words), "{}", look.detail);
    }
    let tls = json!({"serverName": "shop.example", "ca": authority.path()});
    let expired = look(&probe("probe/http", &https(&old, &tls))).await;
    assert_eq!(
        expired.facts.certificate_expires,
        Some(Time::parse("2021-01-01T00:00:00Z").unwrap())
    );
    let unverified = look(&probe(
        "probe/http",
        &https(&old, &json!({"verify": false})),
    ))
    .await;
    assert!(seen(&unverified, Up).contains("certificate ends before now"));
}

#[tokio::test]
async fn a_certificate_of_tomorrow_accuses_the_own_clock() {
    let authority = Authority::new();
    let config = authority.server("shop.example", (2089, 1, 1), LONG);
    let host = Host::saying_over_tls(config, "").await;
    let tls = json!({"serverName": "shop.example", "ca": authority.path()});
    let look = look(&probe("probe/http", &https(&host, &tls))).await;
    assert!(seen(&look, Unknown).contains("this host's clock"));
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_up_and_says_so() {
    let authority = Authority::new();
    let soon: Date = jiff::Timestamp::now().to_zoned(TimeZone::UTC).date() + 9.days();
    let until = (
        i32::from(soon.year()),
        u8::try_from(soon.month()).unwrap(),
        u8::try_from(soon.day()).unwrap(),
    );
    let config = authority.server("shop.example", (2020, 1, 1), until);
    let host = Host::saying_over_tls(config, "HTTP/1.1 204 No Content\r\n\r\n").await;
    let tls = json!({"serverName": "shop.example", "ca": authority.path()});
    let with = https(&host, &tls);
    let made = probe("probe/http", &with);
    assert!(seen(&look(&made).await, Up).ends_with(", certificate ends in 8 days"));
    let tls = json!({"serverName": "shop.example", "ca": authority.path(), "warnBefore": "2d"});
    let calm = look(&probe("probe/http", &https(&host, &tls))).await;
    assert!(!seen(&calm, Up).contains("certificate"));
}

#[tokio::test]
async fn an_authority_that_is_exchanged_in_place_is_trusted_at_once() {
    let (before, after) = (Authority::new(), Authority::new());
    let config = after.server("shop.example", (2020, 1, 1), LONG);
    let host = Host::saying_over_tls(config, "HTTP/1.1 204 No Content\r\n\r\n").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::copy(before.path(), &file).unwrap();
    let tls = json!({"serverName": "shop.example", "ca": file});
    let made = probe("probe/http", &https(&host, &tls));
    assert!(seen(&look(&made).await, Down).contains("UnknownIssuer"));
    std::fs::copy(after.path(), &file).unwrap();
    seen(&look(&made).await, Up);
    // Half a file accuses nobody.
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\n").unwrap();
    seen(&look(&made).await, Unknown);
}

#[tokio::test]
async fn a_ca_file_that_is_gone_is_unknown() {
    let host = Host::silent().await;
    let tls = json!({"ca": "/nowhere/ca.pem"});
    let look = look(&probe("probe/http", &https(&host, &tls))).await;
    assert!(seen(&look, Unknown).starts_with("cannot load the CA file /nowhere/ca.pem"));
}
