//! The five stories of `examples/`, each played by its own documents on real parts: PostgreSQL pairs, BIND, Exim, an S3
//! server; stand-ins on the wire for X, Telegram, Cloudflare and webhooks.

mod accountancy;
mod bookkeeping;
mod crm;
mod invoicing;
mod task_management;

use failover::{
    decide::core::Core,
    model::{record::RunOutcome, verdict::Verdict},
    promote::{Grants, grants_sql},
};
use serde_json::Value;

use crate::stand::{
    bind::{Bind, SECRET},
    postgres::{Cluster, PASSWORD, Pair},
    rehearsal::Keys,
    smtp, telegram, webhook,
    website::Website,
    x,
};

/// A site's address in these stories, by its number.
const PRIMARY: usize = 0;
const STANDBY: usize = 1;

/// A primary and its standby with what `failover check` wants to see: the roles that documents name, with the least that
/// each needs, and a standby that is fit to be promoted.
fn pair() -> Pair {
    let pair = Pair::start();
    for (role, promote, fence) in [
        ("failover", false, false),
        ("failover_promote", true, false),
        ("failover_fence", false, true),
    ] {
        pair.primary.sql(&grants_sql(&Grants {
            role,
            database: "postgres",
            promote,
            fence,
        }));
        pair.primary
            .sql(&format!("ALTER ROLE {role} PASSWORD '{PASSWORD}'"));
    }
    pair.standby.set("fsync", "on");
    pair.settle();
    pair
}

/// Kills a cluster's postmaster, as a script would do it from outside.
fn kill_of(cluster: &Cluster) -> String {
    format!(
        "pid=$(head -n 1 {}/postmaster.pid 2>/dev/null) && kill -KILL \"$pid\" 2>/dev/null",
        cluster.data().display()
    )
}

/// The secrets that all stories share; each adds those that only it names.
fn keys(more: &[(&str, &str)]) -> Keys {
    let mut all = vec![
        ("/etc/failover/tsig.key", SECRET),
        ("SMTP_PASSWORD", smtp::PASSWORD),
        ("UNSUBSCRIBE_KEY", "a key of some length for unsubscribing"),
        ("FAILOVER_DB_PASSWORD", PASSWORD),
        ("X_API_KEY", x::KEYS[0].1),
        ("X_API_SECRET", x::KEYS[1].1),
        ("X_ACCESS_TOKEN", x::KEYS[2].1),
        ("X_ACCESS_SECRET", x::KEYS[3].1),
        ("TELEGRAM_TOKEN", telegram::TOKEN),
    ];
    all.extend_from_slice(more);
    Keys::new(&all)
}

/// A name server with the zone of a story, in which `name` leads to the first site, and a resolver that asks it.
async fn names(zone: &str, records: &str) -> (Bind, Bind) {
    let authority = Bind::with_zone(zone, records).await;
    let resolver = Bind::resolver(authority.address).await;
    (authority, resolver)
}

/// Whether every component is seen to work.
fn is_well(core: &Core) -> bool {
    let components = &core.service().components;
    let verdicts = &core.state().verdicts;
    components.iter().all(|c| {
        verdicts
            .get(&c.name)
            .is_some_and(|v| matches!(v.0, Verdict::Healthy | Verdict::Degraded))
    })
}

/// What the evidence says of a component.
fn verdict(core: &Core, component: &str) -> Option<Verdict> {
    core.state().verdicts.get(&component.into()).map(|v| v.0)
}

/// Whether the last run ended as it should, with everybody told.
fn is_done(core: &Core) -> bool {
    let state = core.state();
    let last = state.last_run.as_ref().and_then(|r| r.ended.as_ref());
    state.run.is_none()
        && matches!(last, Some((RunOutcome::Done, _, _)))
        && state.announcements.values().all(|t| t.settled.is_some())
}

/// What a mail says, with its soft line breaks taken out.
fn words(mail: &str) -> String {
    mail.replace("=\n", "").replace("=3D", "=")
}

/// The address of a site as documents have it: `http://host:port/`.
fn url(website: &Website, site: usize) -> String {
    format!("http://{}/", website.at(site))
}

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap()
}

/// `X` and `webhook` secrets as documents name them.
fn hook() -> &'static str {
    webhook::SECRET
}
