//! The gate, in a network namespace of its own, and the proof that gate and dead-man work on this host.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread::{self, sleep},
    time::{Duration, Instant},
};

use failover::{
    guard::{
        gate::{Gate, GateError, GateState},
        hold::BootTime,
        proof::{LeaseRung, Trial, prove},
    },
    model::{check::CheckStatus, id::ServiceName},
};
use nix::sched::{CloneFlags, unshare};

use crate::stand::postgres::until;

/// What a silent drop would take far longer than.
const FAST: Duration = Duration::from_secs(10);

/// Runs in a network namespace that goes with its thread.
fn apart<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.unwrap().success());
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(test());
    });
    thread.join().unwrap();
}

fn gate(name: &str, end: SocketAddr) -> Gate {
    Gate::new(&ServiceName::new(name), [end]).unwrap()
}

fn listen(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let end = listener.local_addr().unwrap();
    (listener, end)
}

fn refused(end: SocketAddr) -> bool {
    let began = Instant::now();
    let refused = TcpStream::connect_timeout(&end, FAST)
        .is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused);
    refused && began.elapsed() < FAST
}

fn connected(listener: &TcpListener, end: SocketAddr) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect_timeout(&end, FAST).unwrap();
    let (server, _) = listener.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(FAST)).unwrap();
    }
    (client, server)
}

fn reset(stream: &mut TcpStream) -> bool {
    let until = Instant::now() + FAST;
    while Instant::now() < until {
        match stream.write(b"x").and_then(|_| stream.read(&mut [0])) {
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::ConnectionReset
                        | ErrorKind::BrokenPipe
                        | ErrorKind::ConnectionAborted
                ) =>
            {
                return true;
            }
            _ => sleep(Duration::from_millis(10)),
        }
    }
    false
}

#[test]
fn a_closed_gate_refuses_an_open_one_admits_and_one_goes_without_a_trace() {
    apart(|| async {
        for address in ["127.0.0.1", "::1"] {
            let (listener, end) = listen(address);
            let (_, beside) = listen(address);
            let gate = gate("shop", end);
            assert_eq!(gate.state().await.unwrap(), GateState::Absent);
            assert!(matches!(gate.open().await, Err(GateError::Absent(_))));
            gate.install().await.unwrap();
            assert_eq!(gate.state().await.unwrap(), GateState::Closed);
            assert!(refused(end));

            gate.open().await.unwrap();
            assert_eq!(gate.state().await.unwrap(), GateState::Open);
            connected(&listener, end);
            // A restarted guard installs it again: what is open stays so.
            gate.install().await.unwrap();
            assert_eq!(gate.state().await.unwrap(), GateState::Open);

            gate.close().await.unwrap();
            gate.close().await.unwrap();
            assert!(refused(end));
            let elsewhere = TcpListener::bind(beside).unwrap();
            connected(&elsewhere, beside);
            gate.remove().await.unwrap();
            gate.remove().await.unwrap();
            connected(&listener, end);
        }
        let left = Command::new("nft")
            .args(["list", "ruleset"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&left.stdout), "");
    });
}

#[test]
fn every_address_means_every_address_and_one_service_leaves_another_alone() {
    apart(|| async {
        let (listener, end) = listen("127.0.0.1");
        let (other_listener, other) = listen("127.0.0.1");
        let all = gate("all", SocketAddr::from(([0, 0, 0, 0], end.port())));
        let another = gate("another", other);
        all.install().await.unwrap();
        another.install().await.unwrap();
        another.open().await.unwrap();
        assert!(refused(end) && !refused(other));
        let (_client, _server) = connected(&other_listener, other);
        all.remove().await.unwrap();
        assert_eq!(another.state().await.unwrap(), GateState::Open);
        another.close().await.unwrap();
        assert!(refused(other));
        connected(&listener, end);
    });
}

#[test]
fn a_gate_closes_by_itself_and_a_renewal_moves_that() {
    apart(|| async {
        let (listener, end) = listen("127.0.0.1");
        let gate = gate("shop", end);
        gate.install().await.unwrap();
        let first = BootTime::now().after(Duration::from_millis(400));
        assert!(gate.open_until(first).await.unwrap() >= first);
        assert_eq!(gate.state().await.unwrap(), GateState::Closing);
        connected(&listener, end);
        gate.open_until(BootTime::now().after(Duration::from_hours(1)))
            .await
            .unwrap();
        sleep(Duration::from_millis(600));
        let (mut client, mut server) = connected(&listener, end);

        let last = BootTime::now().after(Duration::from_millis(300));
        gate.open_until(last).await.unwrap();
        until("the gate closes", || refused(end));
        assert!(BootTime::now() >= last);
        assert_eq!(gate.state().await.unwrap(), GateState::Closed);
        assert!(reset(&mut client) && reset(&mut server));
        assert!(matches!(gate.open_until(last).await, Err(GateError::Past)));
    });
}

#[test]
fn what_was_on_its_way_when_the_gate_closed_is_not_delivered_when_it_opens() {
    for destroyed in [false, true] {
        apart(move || async move {
            let (listener, end) = listen("127.0.0.1");
            let gate = gate("shop", end);
            gate.install().await.unwrap();
            gate.open().await.unwrap();
            let (mut client, server) = connected(&listener, end);
            let (idle, idle_server) = connected(&listener, end);
            // As a packet filter that only drops would leave it: written, not sent.
            let nft = |rule: &str| {
                let ran = Command::new("nft").arg(rule).status().unwrap();
                assert!(ran.success(), "{rule}");
            };
            nft("add table inet lossy");
            nft("add chain inet lossy out { type filter hook output priority -20; }");
            nft(&format!(
                "add rule inet lossy out tcp sport {} drop",
                end.port()
            ));
            (&server).write_all(b"acknowledged").unwrap();
            drop(server);
            if destroyed {
                gate.close().await.unwrap();
                assert_eq!(gate.destroy_sockets().await.unwrap(), 2);
                assert_eq!(gate.destroy_sockets().await.unwrap(), 0);
            }
            nft("delete table inet lossy");
            gate.open().await.unwrap();
            let mut told = Vec::new();
            let _ = client.read_to_end(&mut told);
            // Without it the kernel does deliver.
            assert_eq!(told.is_empty(), destroyed);
            assert_eq!((&idle_server).write(b"x").is_err(), destroyed);
            drop(idle);
            // Who listens is left alone.
            connected(&listener, end);
        });
    }
}

#[test]
fn a_name_that_nftables_does_not_take_is_told() {
    let end = SocketAddr::from(([127, 0, 0, 1], 5432));
    for name in ["", "a b", "a;flush ruleset"] {
        let made = Gate::new(&ServiceName::new(name), [end]);
        assert!(matches!(made, Err(GateError::Name(_))), "{name}");
    }
    let none = Gate::new(&ServiceName::new("shop"), []);
    assert!(matches!(none, Err(GateError::NoEnd(_))));
}

fn trial(top: &std::path::Path) -> Trial {
    Trial {
        folder: top.join("proof"),
        exe: env!("CARGO_BIN_EXE_failover").into(),
        uid: 65_534,
        gid: 65_534,
    }
}

#[test]
fn this_host_is_proved_and_nothing_is_left_of_it() {
    apart(|| async {
        let top = tempfile::tempdir().unwrap();
        let proof = prove(&trial(top.path())).await;
        println!("{:#?}", proof.items);
        assert_eq!(proof.items.len(), 4);
        // A machine may be in a freezer group; the rest must work wherever these tests do.
        for item in proof.items.iter().filter(|i| i.name != "guard/freezer") {
            assert_eq!(item.status, CheckStatus::Ok, "{item:?}");
        }
        let frozen = proof.items.iter().any(|i| i.status != CheckStatus::Ok);
        match proof.lease {
            LeaseRung::Offered { .. } => assert!(!frozen),
            LeaseRung::Withheld { because } => assert_eq!(because, ["guard/freezer"]),
        }
        let left = Command::new("nft")
            .args(["list", "ruleset"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&left.stdout), "");
    });
}

#[tokio::test]
async fn what_cannot_be_tried_withholds_the_rung() {
    let top = tempfile::tempdir().unwrap();
    let none = top.path().join("no-failover");
    fs::write(&none, "#!/bin/sh\nexit 1\n").unwrap();
    let proof = prove(&Trial {
        exe: none,
        ..trial(top.path())
    })
    .await;
    let LeaseRung::Withheld { because } = proof.lease else {
        panic!("{:?}", proof.items);
    };
    assert!(because.starts_with(&["guard/hold".to_owned(), "guard/ipc".to_owned()]));
    let hold = &proof.items[0];
    assert_eq!(hold.status, CheckStatus::Unknown);
    assert!(hold.detail.contains("Permission denied"), "{}", hold.detail);
}
