//! Vantage points: source addresses and proxies.

use std::sync::{Arc, Mutex};

use failover::model::{
    observation::Sight::{Down, Unknown, Up},
    service::Via,
    span::Span,
};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::{look_for, look_via, probe, seen};
use crate::stand::{
    host::{ClosedPort, Host, http, request},
    proxy::proxy,
};

#[tokio::test]
async fn a_source_address_is_where_the_look_comes_from() {
    let peers = Arc::new(Mutex::new(Vec::new()));
    let seen_peers = peers.clone();
    let host = Host::serving(move |mut stream| {
        seen_peers
            .lock()
            .unwrap()
            .push(stream.peer_addr().unwrap().ip().to_string());
        async move {
            request(&mut stream).await;
            let _ = stream.write_all(http("200 OK", "", "").as_bytes()).await;
        }
    })
    .await;
    let made = probe("probe/http", &json!({"url": host.url()}));
    for ip in ["127.0.0.2", "127.0.0.3"] {
        let look = look_via(&made, Via::SourceAddress(ip.parse().unwrap())).await;
        seen(&look, Up);
    }
    assert_eq!(*peers.lock().unwrap(), ["127.0.0.2", "127.0.0.3"]);

    let missing = Via::SourceAddress("192.0.2.77".parse().unwrap());
    let look = look_via(&made, missing).await;
    assert_eq!(
        seen(&look, Unknown),
        "source address 192.0.2.77 is not on this host"
    );
    let family = look_via(&made, Via::SourceAddress("::1".parse().unwrap())).await;
    seen(&family, Unknown);
}

#[tokio::test]
async fn a_proxy_looks_on_behalf_and_resolves_names_itself() {
    let host = Host::saying(http("200 OK", "", "")).await;
    let with = json!({"url": format!("http://shop.test:{}/", host.address.port())});
    let made = probe("probe/http", &with);
    for scheme in ["socks5", "http"] {
        let (proxy, asked) = proxy().await;
        let via = Via::Proxy(format!("{scheme}://{}", proxy.address));
        seen(&look_via(&made, via).await, Up);
        let asked = asked.lock().unwrap().clone();
        assert_eq!(asked, [format!("shop.test:{}", host.address.port())]);
    }
}

#[tokio::test]
async fn a_refusal_behind_a_proxy_is_down_and_a_proxy_that_is_gone_is_unknown() {
    let (port, gone) = (ClosedPort::new(), ClosedPort::new());
    let with = json!({"host": "127.0.0.1", "port": port.address.port()});
    let made = probe("probe/tcp", &with);
    for scheme in ["socks5", "http"] {
        let (proxy, _) = proxy().await;
        let via = Via::Proxy(format!("{scheme}://{}", proxy.address));
        seen(&look_via(&made, via).await, Down);
        let via = Via::Proxy(format!("{scheme}://{}", gone.address));
        let look = look_via(&made, via).await;
        assert!(seen(&look, Unknown).ends_with("connection refused"));
    }
}

#[tokio::test]
async fn what_a_proxy_will_not_do_is_unknown() {
    let made = probe("probe/tcp", &json!({"host": "127.0.0.1", "port": 9}));
    let timeout = Span::from_millis(300);
    for (scheme, answer) in [
        ("http", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
        ("http", "220 mail ESMTP\r\n\r\n"),
        ("socks5", "\x05\u{7f}"),
        ("socks5", "\x05\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00"),
        ("socks5", "HTTP/1.1 400 Bad Request\r\n\r\n"),
    ] {
        let host = Host::serving(move |mut stream| async move {
            let _ = stream.write_all(answer.as_bytes()).await;
            std::future::pending::<()>().await;
        })
        .await;
        let via = Via::Proxy(format!("{scheme}://{}", host.address));
        let look = look_for(&made, via, timeout).await;
        let detail = seen(&look, Unknown);
        assert!(detail.contains("does not serve"), "{detail}");
    }
}

#[tokio::test]
async fn a_silent_proxy_is_unknown_and_one_that_still_connects_is_down() {
    let made = probe("probe/tcp", &json!({"host": "127.0.0.1", "port": 9}));
    let timeout = Span::from_millis(300);
    let silent = Host::silent().await;
    let via = Via::Proxy(format!("socks5://{}", silent.address));
    let look = look_for(&made, via, timeout).await;
    assert!(seen(&look, Unknown).contains("the proxy is silent"));

    let connecting = Host::serving(|mut stream| async move {
        let _ = stream.write_all(&[5, 0]).await;
        std::future::pending::<()>().await;
    })
    .await;
    let via = Via::Proxy(format!("socks5://{}", connecting.address));
    let look = look_for(&made, via, timeout).await;
    assert!(seen(&look, Down).contains("the proxy is still connecting"));
}

#[tokio::test]
async fn a_banner_behind_a_proxy_is_not_lost() {
    let mail = Host::serving(|mut stream| async move {
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
        request(&mut stream).await;
    })
    .await;
    let with = json!({"host": "127.0.0.1", "port": mail.address.port(), "expect": "ESMTP"});
    let made = probe("probe/tcp", &with);
    for scheme in ["socks5", "http"] {
        let (proxy, _) = proxy().await;
        let via = Via::Proxy(format!("{scheme}://{}", proxy.address));
        seen(&look_via(&made, via).await, Up);
    }
}
