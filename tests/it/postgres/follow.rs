//! `postgres/follow`: a third copy, and whom it follows.

use failover::model::check::CheckStatus;
use serde_json::{Value, json};

use super::{Desk, LONG, Presence, SHORT, USER, done, failed, grant};
use crate::stand::postgres::{Cluster, Pair, until};

struct Three {
    desk: Desk,
    pair: Pair,
    third: Cluster,
}

impl Three {
    fn start() -> Self {
        let pair = Pair::start();
        grant(&pair.primary);
        let third = pair.primary.standby("third");
        // The slot is the first primary's alone.
        third.set("primary_slot_name", "");
        until("it streams without a slot", || third.streams());
        Self {
            desk: Desk::new(),
            pair,
            third,
        }
    }

    fn may_set(&self) {
        let may = format!("GRANT ALTER SYSTEM ON PARAMETER primary_conninfo TO {USER}");
        self.pair.primary.sql(&may);
        let granted =
            format!("SELECT has_parameter_privilege('{USER}', 'primary_conninfo', 'ALTER SYSTEM')");
        until("the standby has the right", || {
            self.third.sql(&granted) == "t"
        });
    }

    fn with(&self, connection: &Cluster) -> Value {
        let mut with = self.desk.with(connection);
        with["upstreams"] = json!({
            "a": upstream(&self.pair.primary),
            "b": upstream(&self.pair.standby),
        });
        with
    }
}

fn upstream(cluster: &Cluster) -> String {
    cluster.superuser() + " application_name='the third'"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_standby_follows_the_promoted_one() {
    let mut three = Three::start();
    let with = three.with(&three.third);
    let item = |items: Vec<failover::model::check::CheckItem>| {
        let found = items.into_iter().find(|i| i.name == "follow/grants");
        found.unwrap()
    };
    let lacking = item(three.desk.check("postgres/follow", &with).await);
    assert_eq!(lacking.status, CheckStatus::Fail, "{lacking:?}");
    let refused = three.desk.perform("postgres/follow", &with, LONG).await;
    failed(refused, "nothing was changed");
    three.may_set();
    let there = item(three.desk.check("postgres/follow", &with).await);
    assert_eq!(there.status, CheckStatus::Ok, "{there:?}");
    let before = three.desk.observe("postgres/follow", &with).await;
    assert!(matches!(before, Presence::Absent { .. }), "{before:?}");

    // A copy that is ahead of the one that is promoted could not follow it: this one has lost its stream before.
    three.third.set("primary_conninfo", "host=127.0.0.1 port=1");
    until("the third has lost its stream", || !three.third.streams());
    three.pair.primary.sql("CREATE TABLE before_all (n int)");
    three.pair.settle();
    three.pair.primary.crash();
    let promotion = three.desk.with(&three.pair.standby);
    done(
        three
            .desk
            .perform("postgres/promote", &promotion, LONG)
            .await,
    );
    let proof = done(three.desk.perform("postgres/follow", &with, LONG).await);
    assert_eq!(proof.facts["timeline"], "2");
    let after = three.desk.observe("postgres/follow", &with).await;
    assert!(matches!(after, Presence::InPlace(_)), "{after:?}");
    three.pair.standby.sql("CREATE TABLE after_all (n int)");
    until("the third has what the promoted one wrote", || {
        three.third.sql("SELECT to_regclass('after_all')") == "after_all"
    });
    done(three.desk.perform("postgres/follow", &with, LONG).await);

    // It is the third that follows; what leads is left as it is.
    let leader = three.with(&three.pair.standby);
    let refused = three.desk.perform("postgres/follow", &leader, LONG).await;
    failed(refused, "is a primary itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_in_vain_is_taken_back() {
    let three = Three::start();
    three.may_set();
    let mut with = three.with(&three.third);
    let setting = || three.third.sql("SHOW primary_conninfo");
    let before = setting();
    with["upstreams"]["b"] = json!("host=127.0.0.1 port=1 user=postgres");
    let vain = three.desk.perform("postgres/follow", &with, SHORT).await;
    failed(vain, "does not stream from 127.0.0.1");
    until("the setting is back", || setting() == before);
    until("it streams as before", || three.third.streams());

    with["upstreams"] = json!({"a": upstream(&three.pair.primary)});
    let nowhere = three.desk.perform("postgres/follow", &with, SHORT).await;
    failed(nowhere, "does not say how");
    assert_eq!(setting(), before);
}
