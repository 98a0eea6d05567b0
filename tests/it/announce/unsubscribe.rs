//! One click in a real mail ends the announcements to one recipient, and to nobody else.

use std::sync::Arc;

use failover::{
    announce::email::unsubscribe::Desk,
    driver::clock::HostRuntime,
    model::{
        plan::Uses,
        service::{Channel as Said, Service},
    },
    port::secret::HostSecrets,
};
use reqwest::StatusCode;
use serde_json::json;

use super::{channel, ledger, mailing, saying, secret, tell};
use crate::stand::{
    listener::Listener,
    smtp::Exim,
    wiring::{service, wiring},
};

#[tokio::test]
async fn one_click_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let exim = Exim::start_open().await;
    let listener = Listener::bind().await;
    let with = json!({
        "smtp": {"host": "127.0.0.1", "port": exim.port, "tls": "none"},
        "from": "status@shop.example",
        "list": {"addresses": ["ann@example.com", "bob@example.com"]},
        "unsubscribe": {
            "url": listener.url(), "key": secret(folder.path(), "leave", "0123456789abcdef"),
        },
    });
    let ledger = ledger(folder.path());
    let desk = Arc::new(Desk::new(
        Arc::new(HostSecrets),
        ledger.clone(),
        Arc::new(HostRuntime::new()),
    ));
    let _listener = listener.serve(desk.clone().router());
    let channel = channel("announce/email", &with, &wiring(folder.path()));
    let message = channel.compile(&saying("One."));
    tell(&*channel, &*ledger, &message, &mailing("m1")).await;
    let mails = exim.mails(2).await;
    let mail = mails
        .iter()
        .find(|m| m.contains("To: ann@example.com"))
        .unwrap();
    assert!(
        mail.contains("\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\n"),
        "{mail}"
    );
    let header = mail
        .lines()
        .find(|l| l.starts_with("List-Unsubscribe: "))
        .unwrap();
    let link = header
        .trim_start_matches("List-Unsubscribe: <")
        .trim_end_matches('>');
    let client = wiring(folder.path()).http;

    // Nobody knows the list yet.
    let status = client.get(link).send().await.unwrap().status();
    assert_eq!(status, StatusCode::NOT_FOUND);
    let mut shop: Service = service();
    shop.announcements.channels = vec![Said {
        name: "mail".into(),
        action: Uses {
            uses: "announce/email".into(),
            with,
        },
        phases: Vec::new(),
    }];
    desk.serve([&shop]);

    // A mail scanner that follows links changes nothing.
    let page = client.get(link).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    let page = page.text().await.unwrap();
    assert!(
        page.contains("<form method=\"post\">") && page.contains("ann@example.com"),
        "{page}"
    );
    let outcome = tell(&*channel, &*ledger, &message, &mailing("m2")).await;
    assert_eq!(outcome.tally.sent, 2);

    // Neither does a link that somebody made up.
    let (start, code) = link.rsplit_once('.').unwrap();
    let forged = format!("{start}.{}", code.chars().rev().collect::<String>());
    let status = client.post(forged).send().await.unwrap().status();
    assert_eq!(status, StatusCode::NOT_FOUND);

    // The mailbox provider's one click does (RFC 8058, 3.2).
    let click = client.post(link).form(&[("List-Unsubscribe", "One-Click")]);
    assert_eq!(click.send().await.unwrap().status(), StatusCode::OK);
    let outcome = tell(&*channel, &*ledger, &message, &mailing("m3")).await;
    assert_eq!((outcome.tally.sent, outcome.tally.suppressed), (1, 1));
    assert_eq!(exim.mails(5).await.len(), 5);
}
