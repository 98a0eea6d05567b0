//! The kernel's sockets with a database's local end.

use std::{collections::BTreeSet, net::SocketAddr};

use super::{GateError, SS, run};

/// How many are connected, or still have something to deliver. What waits for stray packets after its end (TIME-WAIT)
/// delivers nothing.
pub async fn list(ends: &BTreeSet<SocketAddr>) -> Result<usize, GateError> {
    let filter = filter(ends);
    let args = [
        "-H",
        "-n",
        "-t",
        "state",
        "connected",
        "exclude",
        "time-wait",
        &filter,
    ];
    let said = run(SS, &args, "").await?;
    Ok(said.lines().filter(|line| !line.trim().is_empty()).count())
}

/// Destroys them. `ss` tells nobody where the kernel cannot: [`list`] has to be asked afterwards.
pub async fn destroy(ends: &BTreeSet<SocketAddr>) -> Result<(), GateError> {
    let filter = filter(ends);
    let args = ["-K", "-H", "-n", "-t", "state", "connected", &filter];
    run(SS, &args, "").await.map(drop)
}

fn filter(ends: &BTreeSet<SocketAddr>) -> String {
    let each: Vec<String> = ends
        .iter()
        .map(|end| {
            if end.ip().is_unspecified() {
                format!("sport = :{}", end.port())
            } else {
                format!("src {end}")
            }
        })
        .collect();
    format!("( {} )", each.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_ends_are_named_as_ss_reads_them() {
        let ends = ["10.0.0.1:5432", "[::]:5432", "[fe80::1]:1"].map(|end| end.parse().unwrap());
        assert_eq!(
            filter(&BTreeSet::from(ends)),
            "( src 10.0.0.1:5432 or sport = :5432 or src [fe80::1]:1 )"
        );
    }
}
