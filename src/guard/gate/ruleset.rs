//! What the gate is in nftables: each change is one transaction, which the kernel takes wholly or not at all.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde_json::Value;

use super::GateState;

/// The table of a service.
#[derive(Clone, Debug)]
pub struct Ruleset {
    table: String,
    ends: BTreeSet<SocketAddr>,
    ports: BTreeSet<u16>,
}

impl Ruleset {
    /// Of a service whose name nftables takes.
    #[must_use]
    pub fn of(service: &str, ends: &BTreeSet<SocketAddr>) -> Self {
        Self {
            table: format!("failover-{service}"),
            ends: ends.clone(),
            ports: ends.iter().map(SocketAddr::port).collect(),
        }
    }

    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Makes what is missing, and writes the rules anew.
    #[must_use]
    pub fn install(&self) -> String {
        let table = &self.table;
        let mut text = format!(
            "add table inet {table}\nadd set inet {table} open {{ type inet_service; flags timeout; }}\n"
        );
        for local in LOCAL {
            let Local { chain, port, .. } = local;
            // Ahead of filters that accept: only a rejection is final.
            let _ = writeln!(
                text,
                "add chain inet {table} {chain} {{ type filter hook {chain} priority -10; policy accept; }}\n\
                 flush chain inet {table} {chain}"
            );
            for end in &self.ends {
                let what = local.matches(end);
                let _ = writeln!(
                    text,
                    "add rule inet {table} {chain} {what} {port} != @open {NO_RESET} reject with tcp reset"
                );
            }
        }
        text
    }

    /// Takes everything away. What is missing cannot be deleted, so it is made first.
    #[must_use]
    pub fn remove(&self) -> String {
        let table = &self.table;
        format!("add table inet {table}\ndelete table inet {table}\n")
    }

    /// Opens for that long. An element that is there would keep its time-out, so the set is emptied first; no packet
    /// comes in between.
    #[must_use]
    pub fn open_for(&self, left: Duration) -> String {
        self.admit(&format!(" timeout {}ms", left.as_millis().max(1)))
    }

    /// Opens for good.
    #[must_use]
    pub fn open(&self) -> String {
        self.admit("")
    }

    /// Closes.
    #[must_use]
    pub fn close(&self) -> String {
        format!("flush set inet {} open\n", self.table)
    }

    /// What `nft -j list table` tells of it.
    #[must_use]
    pub fn state(&self, table: &Value) -> GateState {
        let rules = |chain: &str| {
            of_kind(table, "rule")
                .filter(|rule| rule["chain"] == chain)
                .count()
        };
        let whole = LOCAL
            .iter()
            .all(|local| rules(local.chain) == self.ends.len());
        let Some(set) = of_kind(table, "set").find(|set| set["name"] == "open") else {
            return GateState::Absent;
        };
        let elements = set["elem"].as_array().map_or(&[][..], Vec::as_slice);
        match elements {
            _ if !whole => GateState::Absent,
            [] => GateState::Closed,
            some if some.iter().any(|e| e["elem"]["timeout"].is_null()) => GateState::Open,
            _ => GateState::Closing,
        }
    }

    fn admit(&self, how: &str) -> String {
        let ports: Vec<String> = self.ports.iter().map(|p| format!("{p}{how}")).collect();
        format!(
            "{}add element inet {} open {{ {} }}\n",
            self.close(),
            self.table,
            ports.join(", ")
        )
    }
}

/// Resets pass, both ways: what this gate answers with is one, and would meet the gate on its own way out. One carries
/// no answer of the database.
const NO_RESET: &str = "tcp flags & rst == 0";

/// Which end of a packet is ours.
struct Local {
    /// The chain and its hook.
    chain: &'static str,
    address: &'static str,
    port: &'static str,
}

const LOCAL: [Local; 2] = [
    Local {
        chain: "input",
        address: "daddr",
        port: "tcp dport",
    },
    Local {
        chain: "output",
        address: "saddr",
        port: "tcp sport",
    },
];

impl Local {
    fn matches(&self, end: &SocketAddr) -> String {
        let Self { address, port, .. } = self;
        let number = end.port();
        let whose = match end.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => "meta nfproto ipv4".to_owned(),
            IpAddr::V6(ip) if ip.is_unspecified() => "meta nfproto ipv6".to_owned(),
            IpAddr::V4(ip) => format!("ip {address} {ip}"),
            IpAddr::V6(ip) => format!("ip6 {address} {ip}"),
        };
        format!("{whose} {port} {number}")
    }
}

fn of_kind<'a>(table: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let all = table["nftables"].as_array().into_iter().flatten();
    all.filter_map(move |object| object.get(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruleset() -> Ruleset {
        let ends = ["10.0.0.1:5432", "[::]:5433"].map(|end| end.parse().unwrap());
        Ruleset::of("shop", &BTreeSet::from(ends))
    }

    #[test]
    fn the_local_end_is_matched_both_ways() {
        let text = ruleset().install();
        let rules: Vec<&str> = text.lines().filter(|l| l.starts_with("add rule")).collect();
        assert_eq!(
            rules,
            [
                "add rule inet failover-shop input ip daddr 10.0.0.1 tcp dport 5432 tcp dport != @open tcp flags & rst == 0 reject with tcp reset",
                "add rule inet failover-shop input meta nfproto ipv6 tcp dport 5433 tcp dport != @open tcp flags & rst == 0 reject with tcp reset",
                "add rule inet failover-shop output ip saddr 10.0.0.1 tcp sport 5432 tcp sport != @open tcp flags & rst == 0 reject with tcp reset",
                "add rule inet failover-shop output meta nfproto ipv6 tcp sport 5433 tcp sport != @open tcp flags & rst == 0 reject with tcp reset",
            ]
        );
    }

    #[test]
    fn opening_empties_the_set_first_and_is_never_without_end_by_rounding() {
        assert_eq!(
            ruleset().open_for(Duration::from_micros(10)),
            "flush set inet failover-shop open\n\
             add element inet failover-shop open { 5432 timeout 1ms, 5433 timeout 1ms }\n"
        );
    }
}
