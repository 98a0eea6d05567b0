//! A primary that nobody writes to.

use failover::model::check::CheckStatus;
use serde_json::json;

use super::{LONG, desk::Desk, grant};
use crate::stand::{
    postgres::{Pair, until},
    wiring::{look, probe},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_primary_keeps_nobody_from_being_ready() {
    let desk = Desk::new();
    let pair = Pair::start();
    grant(&pair.primary);
    pair.settle();
    let mut with = desk.with(&pair.standby);
    with["heardWithin"] = json!("4s");
    let heard = |so: &str| {
        let ask = format!("SELECT last_msg_receipt_time {so} FROM pg_stat_wal_receiver");
        pair.standby.sql(&ask)
    };
    until("a silence", || {
        heard("< clock_timestamp() - interval '4100ms'") == "t"
    });
    let check = async || {
        probe("probe/postgres-standby", &with, &desk.wiring)
            .check(&look(LONG))
            .await
            .remove(0)
    };
    let idle = check().await;
    assert_eq!(
        (idle.status, idle.hinders()),
        (CheckStatus::Unknown, false),
        "{idle:?}"
    );

    let fix = idle.fix.unwrap();
    let (_, sql) = fix.split_once("on the primary: ").unwrap();
    let before = heard("");
    for sql in sql.split("; ") {
        pair.primary.sql(sql);
    }
    // By itself the standby would ask every 30 s.
    until("the idle primary is heard", || {
        heard(&format!("> '{before}'::timestamptz + interval '5s'")) == "t"
    });
    let heard = check().await;
    assert_eq!(heard.status, CheckStatus::Ok, "{heard:?}");
}
