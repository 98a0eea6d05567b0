//! The endpoints of a `DNSEndpoint`, as external-dns reads them: what a name has, and the list with one of them changed.
//! Whatever else stands there stays as it is.

use std::collections::BTreeSet;

use hickory_proto::rr::Name;
use serde_json::{Map, Value, json};

use crate::{dns::rrset, model::service::RecordKind, port::dns::RecordSet};

/// The TTL in seconds that most providers of external-dns give a record which names none.
const UNNAMED_TTL: u32 = 300;

/// Settings of an endpoint for which servers give something else than its targets.
const FRONTED: [(&str, &str); 2] = [
    (
        "external-dns.alpha.kubernetes.io/cloudflare-proxied",
        "it is behind Cloudflare's proxy: resolvers see Cloudflare's addresses, and the origin changes without any TTL",
    ),
    (
        "alias",
        "it is an alias of Route 53: resolvers see addresses in the place of its target",
    ),
];

/// Which endpoint of the list.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Its name.
    pub owner: Name,
    /// Its type.
    pub kind: RecordKind,
    /// What tells it from others of this name and type.
    pub identifier: Option<&'a str>,
}

impl Wanted<'_> {
    fn title(&self) -> String {
        format!("{} {}", self.owner, self.kind)
    }
}

/// The list of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoints(Vec<Value>);

impl Endpoints {
    /// The list of this object; an empty one where it has none.
    ///
    /// # Errors
    /// Where what stands there is no list.
    pub fn of(object: &Value) -> Result<Self, String> {
        match object.pointer("/spec/endpoints") {
            None | Some(Value::Null) => Ok(Self(Vec::new())),
            Some(Value::Array(all)) => Ok(Self(all.clone())),
            Some(_) => Err("its spec.endpoints is no list".to_owned()),
        }
    }

    /// What stands there for this name and type.
    ///
    /// # Errors
    /// Where it stands there several times, or is not what its type holds.
    pub fn set(&self, wanted: &Wanted<'_>) -> Result<RecordSet, String> {
        let Some(at) = self.at(wanted)? else {
            return Ok(RecordSet {
                values: BTreeSet::new(),
                ttl: 0,
            });
        };
        let one = &self.0[at];
        let values = rrset::canonical(wanted.kind, &targets(one));
        let ttl = one["recordTTL"]
            .as_i64()
            .and_then(|ttl| u32::try_from(ttl).ok());
        Ok(RecordSet {
            values: values.map_err(|e| e.to_string())?,
            ttl: ttl.filter(|ttl| *ttl > 0).unwrap_or(UNNAMED_TTL),
        })
    }

    /// The list with this set in the place of what stands there now.
    ///
    /// # Errors
    /// Where it stands there several times.
    pub fn with(&self, wanted: &Wanted<'_>, want: &RecordSet) -> Result<Value, String> {
        let mut all = self.0.clone();
        let at = self.at(wanted)?;
        if want.values.is_empty() {
            if let Some(at) = at {
                all.remove(at);
            }
            return Ok(Value::Array(all));
        }
        // An endpoint whose target ends with a dot is left out by external-dns.
        let targets: Vec<&str> = want
            .values
            .iter()
            .map(|v| v.trim_end_matches('.'))
            .collect();
        let at = at.unwrap_or_else(|| {
            let name = wanted.owner.to_ascii();
            let mut new = Map::from_iter([
                ("dnsName".to_owned(), json!(name.trim_end_matches('.'))),
                ("recordType".to_owned(), json!(wanted.kind)),
            ]);
            if let Some(identifier) = wanted.identifier {
                new.insert("setIdentifier".to_owned(), json!(identifier));
            }
            all.push(Value::Object(new));
            all.len() - 1
        });
        all[at]["targets"] = json!(targets);
        all[at]["recordTTL"] = json!(want.ttl);
        Ok(Value::Array(all))
    }

    /// The type that stands at this name, where a CNAME cannot stand beside it.
    #[must_use]
    pub fn other_type(&self, wanted: &Wanted<'_>) -> Option<&str> {
        let types = self
            .0
            .iter()
            .filter(|one| is_named(one, &wanted.owner))
            .filter_map(|one| one["recordType"].as_str());
        let cname = RecordKind::CNAME.to_string();
        types.into_iter().find(|other| match wanted.kind {
            RecordKind::CNAME => **other != cname,
            RecordKind::A | RecordKind::AAAA => **other == cname,
        })
    }

    /// The target for which external-dns leaves this endpoint out.
    #[must_use]
    pub fn left_out(&self, wanted: &Wanted<'_>) -> Option<String> {
        let one = &self.0[self.at(wanted).ok()??];
        targets(one)
            .into_iter()
            .find(|target| target.ends_with('.'))
    }

    /// Why resolvers see something else than its targets.
    #[must_use]
    pub fn fronted(&self, wanted: &Wanted<'_>) -> Option<&'static str> {
        let one = &self.0[self.at(wanted).ok()??];
        let settings = one["providerSpecific"].as_array()?;
        FRONTED
            .into_iter()
            .filter(|(name, _)| *name != "alias" || wanted.kind == RecordKind::CNAME)
            .find(|(name, _)| {
                let is_set = |s: &Value| s["name"] == **name && s["value"] == "true";
                settings.iter().any(is_set)
            })
            .map(|(_, why)| why)
    }

    /// Where it stands.
    fn at(&self, wanted: &Wanted<'_>) -> Result<Option<usize>, String> {
        let kind = wanted.kind.to_string();
        let mut own = Vec::new();
        for (at, one) in self.0.iter().enumerate() {
            if !is_named(one, &wanted.owner) || one["recordType"] != *kind {
                continue;
            }
            let identifier = one["setIdentifier"].as_str().filter(|id| !id.is_empty());
            if identifier != wanted.identifier {
                return Err(format!(
                    "{} stands there with the setIdentifier {} too, and a failover would leave that where it is",
                    wanted.title(),
                    identifier.unwrap_or("(none)")
                ));
            }
            own.push(at);
        }
        match own[..] {
            [] => Ok(None),
            [at] => Ok(Some(at)),
            [..] => Err(format!(
                "{} stands there {} times",
                wanted.title(),
                own.len()
            )),
        }
    }
}

fn is_named(one: &Value, owner: &Name) -> bool {
    let name = one["dnsName"].as_str().map(rrset::name);
    name.is_some_and(|name| name.as_ref() == Ok(owner))
}

fn targets(one: &Value) -> Vec<String> {
    let all = one["targets"].as_array().into_iter().flatten();
    all.filter_map(|target| Some(target.as_str()?.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(all: &Value) -> Endpoints {
        Endpoints::of(&json!({"spec": {"endpoints": all}})).unwrap()
    }

    fn wanted(name: &str, kind: RecordKind, identifier: Option<&'static str>) -> Wanted<'static> {
        Wanted {
            owner: rrset::name(name).unwrap(),
            kind,
            identifier,
        }
    }

    fn set(values: &[&str], ttl: u32) -> RecordSet {
        RecordSet {
            values: values.iter().map(|v| (*v).to_owned()).collect(),
            ttl,
        }
    }

    const APP: &str = "app.example.com.";

    #[test]
    fn one_endpoint_is_changed_and_all_else_stays() {
        let all = json!([
            {"dnsName": "www.example.com", "recordType": "A", "targets": ["192.0.2.9"]},
            {"dnsName": "App.example.com", "recordType": "A", "recordTTL": 60, "targets": ["192.0.2.2", "192.0.2.1"],
             "labels": {"a": "b"}, "providerSpecific": [{"name": "x", "value": "y"}]},
            {"dnsName": "app.example.com", "recordType": "TXT", "targets": ["text"]},
        ]);
        let app = wanted(APP, RecordKind::A, None);
        let found = endpoints(&all);
        assert_eq!(found.set(&app), Ok(set(&["192.0.2.1", "192.0.2.2"], 60)));
        let changed = found.with(&app, &set(&["198.51.100.1"], 30)).unwrap();
        let mut expected = all.clone();
        expected[1]["targets"] = json!(["198.51.100.1"]);
        expected[1]["recordTTL"] = json!(30);
        assert_eq!(changed, expected);

        let gone = found.with(&app, &set(&[], 0)).unwrap();
        assert_eq!(gone, json!([all[0], all[2]]));
        let six = wanted(APP, RecordKind::AAAA, Some("eu"));
        let added = found.with(&six, &set(&["2001:db8::1"], 60)).unwrap();
        assert_eq!(
            added[3],
            json!({"dnsName": "app.example.com", "recordType": "AAAA", "setIdentifier": "eu",
                   "recordTTL": 60, "targets": ["2001:db8::1"]})
        );
    }

    #[test]
    fn names_are_written_without_their_last_dot() {
        let app = wanted(APP, RecordKind::CNAME, None);
        let dotted = endpoints(&json!([
            {"dnsName": "app.example.com.", "recordType": "CNAME", "targets": ["A.example.net."]},
        ]));
        assert_eq!(dotted.set(&app), Ok(set(&["a.example.net."], UNNAMED_TTL)));
        assert_eq!(dotted.left_out(&app), Some("A.example.net.".to_owned()));
        let written = dotted.with(&app, &set(&["b.example.net."], 60)).unwrap();
        assert_eq!(written[0]["targets"], json!(["b.example.net"]));
        assert_eq!(endpoints(&written).left_out(&app), None);
    }

    #[test]
    fn what_stands_there_twice_is_not_chosen_from() {
        let one = |identifier: &str| {
            json!({"dnsName": "app.example.com", "recordType": "A", "targets": ["192.0.2.1"],
                   "setIdentifier": identifier})
        };
        let app = |identifier| wanted(APP, RecordKind::A, identifier);
        let twice = endpoints(&json!([one(""), one("")]));
        assert!(twice.set(&app(None)).unwrap_err().contains("2 times"));
        let weighted = endpoints(&json!([one("eu"), one("us")]));
        for identifier in [None, Some("eu")] {
            let told = weighted.set(&app(identifier)).unwrap_err();
            assert!(told.contains("setIdentifier"), "{told}");
        }
        let routed = endpoints(&json!([one("eu")]));
        assert_eq!(routed.set(&app(Some("eu"))).unwrap().values.len(), 1);
        let told = Endpoints::of(&json!({"spec": {"endpoints": 1}})).unwrap_err();
        assert!(told.contains("no list"), "{told}");
    }

    #[test]
    fn a_cname_stands_alone() {
        let all = endpoints(&json!([
            {"dnsName": "app.example.com", "recordType": "CNAME", "targets": ["a.example.net"]},
            {"dnsName": "www.example.com", "recordType": "AAAA", "targets": ["2001:db8::1"]},
        ]));
        let other = |name, kind| all.other_type(&wanted(name, kind, None)).map(str::to_owned);
        assert_eq!(other(APP, RecordKind::A).as_deref(), Some("CNAME"));
        assert_eq!(other(APP, RecordKind::CNAME), None);
        assert_eq!(
            other("www.example.com", RecordKind::CNAME).as_deref(),
            Some("AAAA")
        );
        assert_eq!(other("www.example.com", RecordKind::A), None);
    }

    #[test]
    fn what_stands_before_a_record_is_told() {
        let one = |name: &str, kind: &str| {
            let setting = json!([{"name": name, "value": "true"}]);
            let target = if kind == "A" {
                "192.0.2.1"
            } else {
                "a.example.net"
            };
            endpoints(
                &json!([{"dnsName": "app.example.com", "recordType": kind, "targets": [target],
                               "providerSpecific": setting}]),
            )
        };
        let fronted = |all: &Endpoints, kind| all.fronted(&wanted(APP, kind, None)).is_some();
        let proxied = one("external-dns.alpha.kubernetes.io/cloudflare-proxied", "A");
        assert!(fronted(&proxied, RecordKind::A));
        assert!(fronted(&one("alias", "CNAME"), RecordKind::CNAME));
        assert!(!fronted(&one("alias", "A"), RecordKind::A));
        assert!(!fronted(&one("aws/weight", "A"), RecordKind::A));
    }
}
