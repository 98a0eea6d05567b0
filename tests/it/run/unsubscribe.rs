//! The link in a mail leads somewhere: the listener of the status page takes it.

use failover::{
    announce::{email::unsubscribe::Leaving, ledger::SqliteLedger},
    model::secret::Secret,
    port::{channel::Recipient, ledger::Ledger},
};
use nix::sys::signal::Signal;

use crate::stand::{controller::Stand, patience::until};

const KEY: &str = "a key that only tests know";

fn with_mail(stand: &Stand) -> String {
    let channel = format!(
        "      - name: users
        uses: announce/email
        with:
          smtp: {{host: 127.0.0.1, port: 1, tls: none}}
          from: Shop <status@example.com>
          list: {{csv: {list}}}
          unsubscribe: {{url: \"https://status.example.com\", key: {{file: {key}}}}}
  team:",
        list = stand.path("list.csv").display(),
        key = stand.path("key").display(),
    );
    stand.document().replacen("  team:", &channel, 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_click_is_enough_and_a_look_is_not() {
    let mut stand = Stand::new().await;
    stand.file("key", KEY);
    stand.file("list.csv", "email\nann@example.com\nbob@example.com\n");
    stand.write(&with_mail(&stand));
    stand.start(&[]);
    let token = |key: &str| {
        let leaving = Leaving {
            service: "shop".into(),
            list: "announcements".to_owned(),
            to: Recipient("ann@example.com".to_owned()),
        };
        format!("/unsubscribe/{}", leaving.token(&Secret::new(key)))
    };

    let (status, page) = stand.page("/").await;
    assert_eq!(status, 200);
    assert!(page.contains("The shop"), "{page}");
    // Mail programs look at links by themselves.
    let (status, page) = stand.page(&token(KEY)).await;
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("ann@example.com"), "{page}");
    let (status, page) = stand.page(&token("somebody else's key")).await;
    assert_eq!(status, 404, "{page}");
    let (status, page) = stand.click(&token(KEY)).await;
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("no more announcements"), "{page}");

    // A reload brings and takes lists.
    stand.write(&stand.document());
    stand.signal(Signal::SIGHUP);
    until("the list is gone", async || {
        stand.page(&token(KEY)).await.0 == 404
    })
    .await;
    stand.signal(Signal::SIGTERM);
    assert_eq!(stand.ended().code(), Some(0));
    let ledger = SqliteLedger::open(&stand.path("state/ledger.sqlite")).unwrap();
    let shop = "shop".into();
    for (who, left) in [("ann@example.com", true), ("bob@example.com", false)] {
        let who = Recipient(who.to_owned());
        assert_eq!(ledger.suppressed(&shop, &who).await.unwrap(), left);
    }
}
