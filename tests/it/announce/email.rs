//! Mails through a real server, and through servers that fail at the worst moment.

use std::process::Command;

use base64::{Engine, engine::general_purpose::STANDARD};
use failover::{
    model::{announcement::Phase, check::CheckStatus},
    port::{
        channel::{Sent, SharedChannel},
        ledger::Ledger,
    },
};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    channel,
    dkim::{prove, unfold},
    key, ledger, mailing, notice, saying, secret, tell, to,
};
use crate::stand::{
    smtp::{CutAfterDot, Exim, PASSWORD, Scripted, USER},
    wiring::wiring,
};

/// A channel whose list is `addresses`, with changes to its settings.
#[expect(
    clippy::needless_pass_by_value,
    reason = "each caller makes the value for this call"
)]
fn email(
    folder: &TempDir,
    smtp: Value,
    addresses: &[&str],
    change: impl FnOnce(&mut Value),
) -> SharedChannel {
    let mut with = json!({
        "smtp": smtp,
        "from": "Shop status <status@shop.example>",
        "list": {"addresses": addresses},
    });
    change(&mut with);
    channel("announce/email", &with, &wiring(folder.path()))
}

fn open(port: u16) -> Value {
    json!({"host": "127.0.0.1", "port": port, "tls": "none", "timeout": "5s"})
}

fn logged_in(exim: &Exim, folder: &TempDir, password: &str) -> Value {
    json!({
        "host": "localhost", "port": exim.port, "ca": exim.ca(), "timeout": "5s",
        "login": {"user": USER, "password": secret(folder.path(), "smtp", password)},
    })
}

fn header(mail: &str, name: &str) -> String {
    let (head, _) = mail.split_once("\n\n").unwrap();
    let found = unfold(head)
        .into_iter()
        .find(|(n, _)| n.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value).unwrap_or_default()
}

/// The text of a mail with its quoted-printable lines put together.
fn readable(mail: &str) -> String {
    mail.replace("=\n", "").replace("=3D", "=")
}

#[tokio::test]
async fn everybody_on_the_list_gets_one_mail_over_tls_with_login() {
    let folder = tempfile::tempdir().unwrap();
    let exim = Exim::start().await;
    let people = ["ann@example.com", "bob@example.com", "cy@example.com"];
    let channel = email(
        &folder,
        logged_in(&exim, &folder, PASSWORD),
        &people,
        |_| {},
    );
    assert!(
        channel
            .check()
            .await
            .iter()
            .all(|i| i.status == CheckStatus::Ok)
    );
    let message = channel.compile(&notice(Phase::OnStandby));
    let ledger = ledger(folder.path());
    let outcome = tell(&*channel, &*ledger, &message, &mailing("m1")).await;
    assert_eq!(
        (outcome.tally.sent, outcome.broken),
        (3, None),
        "{}",
        exim.log()
    );
    let mails = exim.mails(3).await;
    let mut told: Vec<String> = mails.iter().map(|m| header(m, "Envelope-to")).collect();
    told.sort();
    assert_eq!(told, people);
    assert!(
        header(&mails[0], "Received").contains("esmtpsa"),
        "not encrypted and logged in"
    );
    assert_eq!(header(&mails[0], "Auto-Submitted"), "auto-generated");
    assert_eq!(
        header(&mails[0], "Subject"),
        "Shop works again, from our standby site"
    );
    let text = readable(&mails[0]);
    assert!(
        text.contains("Use this address now: https://shop.standby.example.net/\n"),
        "{text}"
    );
    assert!(
        text.contains("<a href=\"https://shop.standby.example.net/\">"),
        "{text}"
    );
    let ids: std::collections::BTreeSet<String> =
        mails.iter().map(|m| header(m, "Message-ID")).collect();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn a_mailing_that_is_run_again_mails_nobody_twice() {
    let folder = tempfile::tempdir().unwrap();
    let exim = Exim::start_open().await;
    let channel = email(
        &folder,
        open(exim.port),
        &["ann@example.com", "bob@example.com"],
        |_| {},
    );
    let message = channel.compile(&saying("Once."));
    let ledger = ledger(folder.path());
    for _ in 0..2 {
        let outcome = tell(&*channel, &*ledger, &message, &mailing("m1")).await;
        assert_eq!(outcome.tally.sent, 2);
    }
    assert_eq!(exim.mails(2).await.len(), 2);
}

#[tokio::test]
async fn connections_are_kept_between_mails() {
    let folder = tempfile::tempdir().unwrap();
    let exim = Exim::start_open().await;
    let people: Vec<String> = (0..12).map(|n| format!("user{n}@example.com")).collect();
    let people: Vec<&str> = people.iter().map(String::as_str).collect();
    let channel = email(&folder, open(exim.port), &people, |with| {
        with["workers"] = json!(2);
    });
    let message = channel.compile(&saying("Many."));
    let outcome = tell(&*channel, &*ledger(folder.path()), &message, &mailing("m1")).await;
    assert_eq!(outcome.tally.sent, 12);
    // One connection is the fixture's own greeting check, made twice.
    let connections = exim.log().matches("SMTP connection from").count();
    let ours = exim
        .log()
        .lines()
        .filter(|l| l.contains("<= status@shop.example"))
        .count();
    assert_eq!(ours, 12);
    assert!(connections <= 6, "{}", exim.log());
}

#[tokio::test]
async fn a_customer_s_mailbox_that_does_not_exist_is_not_written_to_again() {
    let folder = tempfile::tempdir().unwrap();
    let exim = Exim::start_open().await;
    let channel = email(&folder, open(exim.port), &[], |with| {
        let file = folder.path().join("customers.csv");
        std::fs::write(&file, "email\nann@example.com\ngone@example.com\n").unwrap();
        with["list"] = json!({"csv": file});
        with["unsubscribe"] = json!({
            "url": "https://status.shop.example",
            "key": secret(folder.path(), "leave", "0123456789abcdef"),
        });
    });
    channel.refresh().await.unwrap();
    let ledger = ledger(folder.path());
    let message = channel.compile(&saying("One."));
    let outcome = tell(&*channel, &*ledger, &message, &mailing("m1")).await;
    assert_eq!((outcome.tally.sent, outcome.tally.failed), (1, 1));
    let reasons: Vec<&String> = outcome.problems.keys().collect();
    assert!(
        reasons[0].contains("5.1.1") && !reasons[0].contains('@'),
        "{reasons:?}"
    );
    let outcome = tell(&*channel, &*ledger, &message, &mailing("m2")).await;
    assert_eq!((outcome.tally.sent, outcome.tally.suppressed), (1, 1));
    let gone = to("gone@example.com");
    assert!(ledger.suppressed(&"shop".into(), &gone).await.unwrap());
}

#[tokio::test]
async fn a_team_s_mailbox_is_written_to_again_whatever_the_server_said() {
    let folder = tempfile::tempdir().unwrap();
    let server = Scripted::start(&[]).await;
    server.next([("RCPT", "550 5.1.1 no such mailbox")]);
    let channel = email(&folder, open(server.port), &["ann@example.com"], |_| {});
    let ledger = ledger(folder.path());
    let message = channel.compile(&saying("One."));
    let outcome = tell(&*channel, &*ledger, &message, &mailing("m1")).await;
    assert_eq!(outcome.tally.failed, 1);
    let outcome = tell(&*channel, &*ledger, &message, &mailing("m2")).await;
    assert_eq!((outcome.tally.sent, outcome.tally.suppressed), (1, 0));
}

#[tokio::test]
async fn what_one_mailing_was_refused_does_not_break_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let server = Scripted::start(&[]).await;
    let channel = email(&folder, open(server.port), &["ann@example.com"], |_| {});
    let message = channel.compile(&saying("One."));
    for (again, broken) in [(4, false), (4, false), (5, true)] {
        channel.recipients().await.unwrap();
        let mut last = None;
        for _ in 0..again {
            server.next([("RCPT", "550 5.7.1 not from you")]);
            let (ann, key) = (to("ann@example.com"), key("k"));
            last = Some(channel.send(&message, &ann, &key).await);
        }
        let is_broken = matches!(last, Some(Sent::Broken { .. }));
        assert_eq!(is_broken, broken, "{last:?}");
    }
}

/// The server takes its time for every line: none of its answers is late, and all together are.
#[tokio::test]
async fn a_mail_that_was_never_sent_is_not_unknown() {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (read, mut write) = client.into_split();
                let mut lines = BufReader::new(read).lines();
                let mut answer = "220 slow.example ESMTP\r\n";
                loop {
                    tokio::time::sleep(std::time::Duration::from_millis(350)).await;
                    if write.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                    let Ok(Some(_)) = lines.next_line().await else {
                        return;
                    };
                    answer = "250 ok\r\n";
                }
            });
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let channel = email(&folder, open(port), &["ann@example.com"], |with| {
        with["smtp"]["timeout"] = json!("400ms");
    });
    let message = channel.compile(&saying("One."));
    let sent = channel
        .send(&message, &to("ann@example.com"), &key("k"))
        .await;
    assert!(matches!(sent, Sent::Later { .. }), "{sent:?}");
}

#[tokio::test]
async fn a_server_that_relays_for_nobody_breaks_the_channel() {
    let folder = tempfile::tempdir().unwrap();
    let exim = Exim::start_open().await;
    let channel = email(&folder, open(exim.port), &["ann@elsewhere.example"], |_| {});
    let message = channel.compile(&saying("One."));
    for _ in 0..4 {
        let sent = channel
            .send(&message, &to("ann@elsewhere.example"), &key("k"))
            .await;
        assert!(matches!(sent, Sent::Later { .. }), "{sent:?}");
    }
    let sent = channel
        .send(&message, &to("ann@elsewhere.example"), &key("k"))
        .await;
    assert!(
        matches!(&sent, Sent::Broken { reason } if reason.contains("relay")),
        "{sent:?}"
    );
}

#[tokio::test]
async fn a_wrong_password_breaks_the_channel_and_never_shows() {
    let folder = tempfile::tempdir().unwrap();
    let exim = Exim::start().await;
    let smtp = logged_in(&exim, &folder, "not-the-password");
    let channel = email(&folder, smtp, &["ann@example.com"], |_| {});
    let message = channel.compile(&saying("One."));
    let sent = channel
        .send(&message, &to("ann@example.com"), &key("k"))
        .await;
    assert!(
        matches!(&sent, Sent::Broken { reason } if !reason.contains("not-the")),
        "{sent:?}"
    );
    let items = channel.check().await;
    assert_eq!(items[0].status, CheckStatus::Fail);
    assert_eq!(items[0].fix.as_deref(), Some("correct the login"));
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let exim = Exim::start().await;
    let mut smtp = logged_in(&exim, &folder, PASSWORD);
    smtp.as_object_mut().unwrap().remove("ca");
    let channel = email(&folder, smtp, &["ann@example.com"], |_| {});
    let message = channel.compile(&saying("One."));
    let sent = channel
        .send(&message, &to("ann@example.com"), &key("k"))
        .await;
    assert!(
        matches!(&sent, Sent::Broken { reason } if reason.contains("certificate")),
        "{sent:?}"
    );
    assert!(exim.mails_now().is_empty());
}

#[tokio::test]
async fn a_line_lost_after_the_final_dot_is_unknown_and_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let exim = Exim::start_open().await;
    let relay = CutAfterDot::before(exim.port, 1).await;
    let people = ["ann@example.com", "bob@example.com", "cy@example.com"];
    let channel = email(&folder, open(relay.port), &people, |with| {
        with["workers"] = json!(1);
    });
    let ledger = ledger(folder.path());
    let message = channel.compile(&saying("Once."));
    for _ in 0..2 {
        let outcome = tell(&*channel, &*ledger, &message, &mailing("m1")).await;
        assert_eq!((outcome.tally.sent, outcome.tally.unknown), (2, 1));
    }
    assert_eq!(exim.mails(3).await.len(), 3);
}

#[tokio::test]
async fn throttling_slows_everybody_and_is_followed_by_a_reset() {
    let folder = tempfile::tempdir().unwrap();
    let server = Scripted::start(&[]).await;
    let channel = email(&folder, open(server.port), &["ann@example.com"], |_| {});
    let message = channel.compile(&saying("One."));
    server.next([
        ("MAIL", "450 4.7.0 Transmit rate limit exceeded"),
        (
            ".",
            "454 Throttling failure: Maximum sending rate exceeded.",
        ),
        ("RCPT", "451 4.7.1 greylisted, come again"),
    ]);
    for everyone in [true, true, false] {
        let sent = channel
            .send(&message, &to("ann@example.com"), &key("k"))
            .await;
        assert!(
            matches!(sent, Sent::Later { everyone: e, .. } if e == everyone),
            "{sent:?}"
        );
    }
    let sent = channel
        .send(&message, &to("ann@example.com"), &key("k"))
        .await;
    assert!(matches!(sent, Sent::Accepted { .. }), "{sent:?}");
    let heard = server.heard();
    let verbs: Vec<&str> = heard
        .iter()
        .map(|l| l.split([' ', ':']).next().unwrap())
        .collect();
    assert_eq!(
        verbs,
        [
            "EHLO", "MAIL", "RSET", "MAIL", "RCPT", "DATA", ".", "RSET", "MAIL", "RCPT", "RSET",
            "MAIL", "RCPT", "DATA", "."
        ]
    );
    assert_eq!(server.taken.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = Scripted::start(&[]).await;
    let channel = email(&folder, open(server.port), &["ann@example.com"], |_| {});
    let message = channel.compile(&saying("One."));
    let (ann, key) = (to("ann@example.com"), key("k"));
    let send = || channel.send(&message, &ann, &key);
    assert!(matches!(send().await, Sent::Accepted { .. }));
    server.next([("MAIL", "")]);
    assert!(matches!(send().await, Sent::Accepted { .. }));
    assert_eq!(server.taken.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_server_in_the_clear_is_not_spoken_to() {
    let folder = tempfile::tempdir().unwrap();
    let server = Scripted::start(&["AUTH PLAIN"]).await;
    let smtp = json!({
        "host": "127.0.0.1", "port": server.port, "timeout": "5s",
        "login": {"user": USER, "password": secret(folder.path(), "smtp", PASSWORD)},
    });
    let channel = email(&folder, smtp, &["ann@example.com"], |_| {});
    let message = channel.compile(&saying("One."));
    let sent = channel
        .send(&message, &to("ann@example.com"), &key("k"))
        .await;
    assert!(
        matches!(&sent, Sent::Broken { reason } if reason.contains("STARTTLS")),
        "{sent:?}"
    );
    assert!(
        server
            .heard()
            .iter()
            .all(|l| !l.starts_with("AUTH") && !l.starts_with("MAIL"))
    );
}

#[tokio::test]
async fn letters_beyond_ascii_need_a_server_that_carries_them() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Scripted::start(&[]).await;
    let channel = email(&folder, open(plain.port), &["jörg@example.com"], |_| {});
    let message = channel.compile(&saying("One."));
    let sent = channel
        .send(&message, &to("jörg@example.com"), &key("k"))
        .await;
    assert!(
        matches!(&sent, Sent::Refused { reason, suppress: false } if reason.contains("SMTPUTF8")),
        "{sent:?}"
    );
    assert!(plain.taken.lock().unwrap().is_empty());
    let exim = Exim::start_open().await;
    let channel = email(&folder, open(exim.port), &["jörg@example.com"], |_| {});
    let outcome = tell(&*channel, &*ledger(folder.path()), &message, &mailing("m1")).await;
    assert_eq!(outcome.tally.sent, 1, "{}", exim.log());
}

#[tokio::test]
async fn a_text_cannot_smuggle_a_header_in() {
    let folder = tempfile::tempdir().unwrap();
    let exim = Exim::start_open().await;
    let channel = email(&folder, open(exim.port), &["ann@example.com"], |_| {});
    let mut facts = super::announcement(Phase::OnStandby);
    facts.title = "Shop\r\nBcc: eve@example.com\r\n\r\nhello".to_owned();
    facts.text = Some(".\r\n.\r\nMAIL FROM:<eve@example.com>".to_owned());
    let notice = failover::port::channel::Notice::Announcement {
        announcement: Box::new(facts),
        template: failover::announce::template::ready_made(Phase::OnStandby),
    };
    let message = channel.compile(&notice);
    let outcome = tell(&*channel, &*ledger(folder.path()), &message, &mailing("m1")).await;
    assert_eq!(outcome.tally.sent, 1);
    let mail = &exim.mails(1).await[0];
    assert_eq!(header(mail, "Bcc"), "");
    assert!(mail.contains("MAIL FROM:<eve@example.com>"), "{mail}");
    assert_eq!(exim.mails_now().len(), 1);
}

#[tokio::test]
async fn signatures_hold_after_a_real_server() {
    let folder = tempfile::tempdir().unwrap();
    let exim = Exim::start_open().await;
    let seed = [7_u8; 32];
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let (private, public) = rsa();
    for (algorithm, private, public) in [
        (
            "ed25519",
            STANDARD.encode(seed),
            pair.public_key().as_ref().to_vec(),
        ),
        ("rsa", private, public),
    ] {
        let key = secret(folder.path(), algorithm, &private);
        let leave = secret(folder.path(), "leave", "0123456789abcdef");
        let channel = email(&folder, open(exim.port), &["ann@example.com"], |with| {
            with["dkim"] = json!({
                "domain": "shop.example", "selector": "s1", "algorithm": algorithm, "key": key,
            });
            with["unsubscribe"] = json!({"url": "https://status.shop.example", "key": leave});
            with["replyTo"] = json!("help@shop.example");
        });
        let items = channel.check().await;
        assert!(
            items.iter().all(|i| i.status == CheckStatus::Ok),
            "{items:?}"
        );
        let before = exim.mails_now().len();
        let message = channel.compile(&saying("Größe:  zwei  Leerzeichen \n\nund . Punkte\n.\n"));
        let mailing = mailing(algorithm);
        let outcome = tell(&*channel, &*ledger(folder.path()), &message, &mailing).await;
        assert_eq!(outcome.tally.sent, 1);
        let mails = exim.mails(before + 1).await;
        let mail = mails
            .iter()
            .find(|m| header(m, "DKIM-Signature").contains(&format!("a={algorithm}-sha256")))
            .unwrap();
        let covered = prove(mail, &public).unwrap();
        for name in [
            "from",
            "subject",
            "list-unsubscribe",
            "list-unsubscribe-post",
            "message-id",
        ] {
            assert!(
                covered.iter().any(|c| c.eq_ignore_ascii_case(name)),
                "{covered:?}"
            );
        }
        let changed = mail.replace("Subject: Shop", "Subject: Chop");
        assert_ne!(&changed, mail);
        assert!(prove(&changed, &public).is_err());
    }
}

/// An RSA key as the product wants it (PKCS#1 PEM), and its public half as a verifier wants it (PKCS#1 DER).
fn rsa() -> (String, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rsa.pem");
    let openssl = |arguments: &[&str]| {
        let done = Command::new("openssl").args(arguments).output().unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        done.stdout
    };
    let path = file.to_str().unwrap();
    openssl(&["genrsa", "-traditional", "-out", path, "2048"]);
    let public = openssl(&["rsa", "-in", path, "-RSAPublicKey_out", "-outform", "DER"]);
    (std::fs::read_to_string(&file).unwrap(), public)
}
