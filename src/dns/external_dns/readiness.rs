//! What `failover check` says of an object for external-dns, without changing anything.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{
    Api,
    api::{PatchParams, PostParams},
};

use super::{ExternalDns, FIELD, LookError, Seen, VERSION, Wanted, fix};
use crate::{
    dns::update::absent,
    model::{
        check::{CheckItem, CheckStatus},
        service::RecordKind,
        span::Span,
        time::Time,
    },
    port::{
        dns::RecordSet,
        kubernetes::{ApiError, CHECK, Owner, owners, refused},
    },
};

/// Intervals that external-dns may take to read a change before it counts as gone.
const PATIENCE: u64 = 3;

/// Whether the record could be changed, and whether external-dns follows.
pub(super) async fn check(provider: &ExternalDns, name: &str, kind: RecordKind) -> Vec<CheckItem> {
    let item = format!(
        "dns/external-dns/{}/{}",
        provider.with.namespace, provider.with.name
    );
    let mut items: Vec<CheckItem> = lacking(provider, &item).await.into_iter().collect();
    let seen = match provider.look(CHECK).await {
        Ok(seen) => seen,
        // One that may not is told so once.
        Err(LookError::Api(e)) if e.code() == Some(403) && !items.is_empty() => return items,
        Err(e) => {
            items.push(unreadable(provider, &item, &e));
            return items;
        }
    };
    let Ok(wanted) = provider.wanted(name, kind) else {
        return items;
    };
    items.push(follows(provider, &item, &seen));
    items.extend(taken_by_force(provider, &item, &seen));
    if let Some(bad) = fits(provider, &item, &seen, &wanted) {
        items.push(bad);
    } else if items.iter().all(|item| item.status != CheckStatus::Fail) {
        items.push(tried(provider, &item, &seen, &wanted).await);
    }
    items
}

/// The rights that the account does not have. Where that cannot be asked, trying it shows.
async fn lacking(provider: &ExternalDns, item: &str) -> Option<CheckItem> {
    let client = provider.cluster.client().await.ok()?;
    let api: Api<SelfSubjectAccessReview> = Api::all(client);
    let mut missing = Vec::new();
    for verb in ["get", "patch"] {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(VERSION.0.to_owned()),
                    resource: Some("dnsendpoints".to_owned()),
                    namespace: Some(provider.with.namespace.clone()),
                    name: Some(provider.with.name.clone()),
                    verb: Some(verb.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let params = PostParams::default();
        let asked = ApiError::within(CHECK, api.create(&params, &review)).await;
        let is_denied = asked.ok()?.status.is_some_and(|status| !status.allowed);
        if is_denied {
            missing.push(verb);
        }
    }
    (!missing.is_empty()).then(|| {
        CheckItem::bad(
            format!("{item}/rights"),
            CheckStatus::Fail,
            format!(
                "the account may not {} {}",
                missing.join(" and "),
                provider.title()
            ),
            "give it get and patch on this object of the group externaldns.k8s.io; in this cluster the chart's \
             `workloads` do (dnsEndpoints)",
        )
    })
}

fn unreadable(provider: &ExternalDns, item: &str, error: &LookError) -> CheckItem {
    match error {
        LookError::Shape(_) => CheckItem::bad(
            item,
            CheckStatus::Fail,
            provider.told(error),
            "correct the object",
        ),
        LookError::Api(ApiError::NoKind(_)) => CheckItem::bad(
            item,
            CheckStatus::Fail,
            provider.told(error),
            "install external-dns with its CRD, and have it run with --source=crd",
        ),
        LookError::Api(e) => refused(item, FIELD, e),
    }
}

/// Whether external-dns has read the object as it is now. One that stopped later than that cannot be told from one that has
/// nothing to do.
fn follows(provider: &ExternalDns, item: &str, seen: &Seen) -> CheckItem {
    let name = format!("{item}/followed");
    let title = provider.title();
    let (observed, generation) = (seen.observed(), seen.generation());
    if observed >= generation {
        return CheckItem::ok(
            name,
            format!("external-dns has read {title} as it is (generation {generation})"),
        );
    }
    let patience = provider.with.interval.saturating_mul(PATIENCE);
    let detail = match observed {
        0 => format!("external-dns has never read {title}"),
        _ => format!(
            "external-dns has read {title} as it was, and not since (generation {observed} of {generation})"
        ),
    };
    let fix = "see whether external-dns runs with --source=crd, and whether its --namespace, --label-filter and \
               --annotation-filter let it see the object; it needs update on dnsendpoints/status";
    // Without a time it was changed at some time in the past.
    if age(seen, provider.runtime.wall()).is_none_or(|age| age > patience) {
        CheckItem::bad(name, CheckStatus::Fail, detail, fix)
    } else {
        CheckItem::bad(
            name,
            CheckStatus::Warn,
            format!("{detail}; it was changed less than {patience} ago"),
            fix,
        )
    }
}

/// How long ago the endpoints were last changed, by the API server's clock and ours.
fn age(seen: &Seen, now: Time) -> Option<Span> {
    let managed = seen.object.metadata.managed_fields.iter().flatten();
    let changed = managed
        .filter(|entry| {
            let fields = entry.fields_v1.as_ref();
            fields.is_some_and(|fields| fields.0.get("f:spec").is_some())
        })
        .filter_map(|entry| entry.time.as_ref())
        .map(|time| Time::from_millis(time.0.as_millisecond()))
        .max()?;
    Some(now.since(changed))
}

/// Whoever sets the endpoints back by itself, although the documents force it.
fn taken_by_force(provider: &ExternalDns, item: &str, seen: &Seen) -> Option<CheckItem> {
    if !provider.with.force {
        return None;
    }
    let owners = others(seen);
    let owner = owners.iter().find(|owner| owner.insists())?;
    Some(CheckItem::bad(
        format!("{item}/owner"),
        CheckStatus::Warn,
        format!(
            "{FIELD} of {} is taken from {} by force, which may set it back",
            provider.title(),
            owner.told()
        ),
        fix(owner),
    ))
}

fn others(seen: &Seen) -> Vec<Owner> {
    let managed = seen.object.metadata.managed_fields.as_ref();
    owners(managed, &["spec", "endpoints"])
}

/// What is wrong with the record's endpoint.
fn fits(provider: &ExternalDns, item: &str, seen: &Seen, wanted: &Wanted<'_>) -> Option<CheckItem> {
    let name = format!("{item}/{}/{}", wanted.owner, wanted.kind);
    let title = provider.title();
    if let Err(why) = seen.endpoints.set(wanted) {
        return Some(CheckItem::bad(
            name,
            CheckStatus::Fail,
            format!("{title}: {why}"),
            "leave one endpoint for each record, and name its setIdentifier in the settings where it has one",
        ));
    }
    if let Some(other) = seen.endpoints.other_type(wanted) {
        return Some(CheckItem::bad(
            name,
            CheckStatus::Fail,
            format!(
                "{title} has a record of the type {other} at {}, and the documents have {}: external-dns takes the one \
                 away before it makes the other, and the name may stand empty for as long as {} and all caches together",
                wanted.owner, wanted.kind, provider.with.interval
            ),
            "change the type while all is well and nobody needs the name, or write the documents with the type that stands there: a failover leaves it alone",
        ));
    }
    seen.endpoints.left_out(wanted).map(|target| {
        CheckItem::bad(
            name,
            CheckStatus::Fail,
            format!(
                "{title}: external-dns leaves {} out, since its target {target} ends with a dot",
                wanted.owner
            ),
            "write the target without its last dot",
        )
    })
}

/// Asks the server whether it would take a change: another TTL, or an endpoint where there is none. It is not made.
async fn tried(provider: &ExternalDns, item: &str, seen: &Seen, wanted: &Wanted<'_>) -> CheckItem {
    let Ok(found) = seen.endpoints.set(wanted) else {
        return CheckItem::ok(item, provider.title());
    };
    let want = if found.values.is_empty() {
        RecordSet {
            values: [absent(wanted.kind, &found)].into(),
            ttl: 60,
        }
    } else {
        RecordSet {
            ttl: found.ttl + 1,
            ..found
        }
    };
    let params = PatchParams {
        dry_run: true,
        ..provider.applying()
    };
    match provider.send(seen, wanted, &want, &params, CHECK).await {
        Ok(()) => CheckItem::ok(
            item,
            format!(
                "{} takes changes of {FIELD} (tried without making one)",
                provider.title()
            ),
        ),
        Err(LookError::Api(e)) if e.is_overtaken() => CheckItem::bad(
            item,
            CheckStatus::Unknown,
            format!("{} was changed while it was tried", provider.title()),
            "try again",
        ),
        Err(LookError::Api(e)) => match e.rivals().first() {
            Some(rival) => {
                let known = others(seen).into_iter().find(|o| o.manager() == rival);
                let owner = known.unwrap_or_else(|| Owner::new(rival, None));
                let told = format!(
                    "{FIELD} of {} belongs to {}",
                    provider.title(),
                    owner.told()
                );
                CheckItem::bad(item, CheckStatus::Fail, told, fix(&owner))
            }
            None => refused(item, FIELD, &e),
        },
        Err(e @ LookError::Shape(_)) => unreadable(provider, item, &e),
    }
}
