//! Connections to a host that has several addresses.

use std::{net::SocketAddr, time::Duration};

use futures::stream::{FuturesUnordered, StreamExt};

/// One address gets this head start before the next one is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// The first of several addresses that answers; each failure and each head start brings in the next. An address that
/// leads nowhere then takes no time from the others.
///
/// # Errors
/// Where all failed: what each said, in the order in which they did.
pub async fn race<T, E, F>(
    addresses: &[SocketAddr],
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = addresses.iter();
    let mut tries = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        if let Some(address) = waiting.next() {
            tries.push(connect(*address));
        }
        let ended = if waiting.len() == 0 {
            tries.next().await
        } else {
            match tokio::time::timeout(HEAD_START, tries.next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        };
        match ended {
            Some(Ok(connected)) => return Ok(connected),
            Some(Err(failure)) => failures.push(failure),
            None => return Err(failures),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> [SocketAddr; 3] {
        [1, 2, 3].map(|n| SocketAddr::from(([192, 0, 2, n], 53)))
    }

    #[tokio::test]
    async fn an_address_that_is_silent_is_not_waited_for() {
        let [silent, refusing, good] = addresses();
        let all = [silent, refusing, good];
        let connected = race(&all, |to| async move {
            if to == silent {
                std::future::pending::<()>().await;
            }
            if to == good { Ok(to) } else { Err("refused") }
        });
        assert_eq!(connected.await, Ok(good));
    }

    #[tokio::test]
    async fn every_failure_is_told() {
        let all = addresses();
        let failed = race(&all, |to| async move { Err::<(), _>(to) }).await;
        assert_eq!(failed, Err(all.to_vec()));
    }
}
