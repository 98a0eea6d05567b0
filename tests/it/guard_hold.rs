//! The dead-man, on real PostgreSQL and on whatever tries to outlive it.

mod stage;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::{
        fd::OwnedFd,
        unix::{
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    process::{Command, Stdio},
    time::Duration,
};

use failover::guard::hold::{
    BootTime, CommandSignal, Ended, Hold, HoldError,
    message::{Launch, Started, line},
};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};

use self::stage::{Held, Stage, all_ended, in_ms, inside, pids, signal, stop};
use crate::stand::postgres::{Cluster, until};

/// What anything here may take on a machine that does ten things at once.
const PATIENCE: Duration = Duration::from_mins(1);

async fn end_of(hold: &Hold) -> Ended {
    timeout(PATIENCE, hold.ended()).await.unwrap().unwrap()
}

async fn client(conninfo: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(conninfo, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A client by TCP and one by the Unix socket, both of which have been answered.
async fn clients(cluster: &Cluster) -> [Client; 2] {
    let tcp = format!("host=127.0.0.1 port={} user=postgres", cluster.port);
    let clients = [client(&tcp).await, client(&cluster.superuser()).await];
    for client in &clients {
        client.simple_query("SELECT 1").await.unwrap();
    }
    clients
}

#[tokio::test]
async fn the_end_of_the_lease_kills_postgresql_with_its_clients() {
    let server = Held::start().await;
    let clients = clients(&server.cluster).await;
    let all = server.inside().await;
    assert!(all.len() > 6, "postmaster, workers and two backends");
    let end = in_ms(300);
    server.hold.arm(end).await.unwrap();
    assert_eq!(server.hold.state().await.unwrap().armed, Some(end));
    assert_eq!(end_of(&server.hold).await, Ended::Cut);
    let now = BootTime::now();
    println!(
        "all of PostgreSQL ended {} ms after its lease",
        now.since(end).as_millis()
    );
    assert!(now >= end);
    assert!(all_ended(&all));
    for client in &clients {
        client.simple_query("SELECT 1").await.unwrap_err();
    }
    assert!(!server.cluster.answers());
    assert_eq!(
        Hold::last_end(&server.stage.folder()).unwrap(),
        Some(Ended::Cut)
    );
}

#[tokio::test]
async fn the_end_of_the_lease_kills_what_is_stopped() {
    let server = Held::start().await;
    let clients = clients(&server.cluster).await;
    let all = server.inside().await;
    let hold = server.hold.state().await.unwrap().hold;
    let end = in_ms(1000);
    server.hold.arm(end).await.unwrap();
    // Postmaster, workers, backends and init, and the one with the timer.
    all.iter().for_each(stop);
    signal(hold, Signal::SIGSTOP);
    assert_eq!(end_of(&server.hold).await, Ended::Cut);
    let now = BootTime::now();
    println!(
        "stopped PostgreSQL ended {} ms after its lease",
        now.since(end).as_millis()
    );
    assert!(now >= end);
    assert!(all_ended(&all));
    for client in &clients {
        client.simple_query("SELECT 1").await.unwrap_err();
    }
}

#[tokio::test]
async fn whoever_kills_hold_or_init_kills_postgresql() {
    for init in [false, true] {
        let server = Held::start().await;
        let all = server.inside().await;
        all.iter().skip(1).for_each(stop);
        let seen = server.hold.state().await.unwrap();
        signal(if init { seen.init } else { seen.hold }, Signal::SIGKILL);
        assert_eq!(end_of(&server.hold).await, Ended::Cut);
        assert!(all_ended(&all));
        assert!(!server.hold.runs().unwrap());
    }
}

#[tokio::test]
async fn a_renewed_lease_moves_the_end() {
    let stage = Stage::new();
    let hold = Hold::start(&stage.launch("/bin/sleep", &["1000"]))
        .await
        .unwrap();
    assert_eq!(hold.state().await.unwrap().armed, None);
    hold.arm(in_ms(700)).await.unwrap();
    let later = in_ms(3_600_000);
    hold.arm(later).await.unwrap();
    sleep(Duration::from_millis(900)).await;
    assert_eq!(hold.state().await.unwrap().armed, Some(later));

    hold.arm(in_ms(700)).await.unwrap();
    hold.disarm().await.unwrap();
    sleep(Duration::from_millis(900)).await;
    let seen = hold.state().await.unwrap();
    assert_eq!(seen.armed, None);
    assert!(seen.command.is_some());

    let past = BootTime::from_millis(0);
    assert!(matches!(hold.arm(past).await, Err(HoldError::Gone(_))));
    assert_eq!(end_of(&hold).await, Ended::Cut);
}

#[tokio::test]
async fn a_start_after_the_lease_starts_nothing() {
    let stage = Stage::new();
    let mark = stage.folder().with_file_name("mark");
    let launch = Launch {
        armed: Some(BootTime::from_millis(0)),
        ..stage.shell(&format!("echo > {}", mark.display()))
    };
    assert!(matches!(
        Hold::start(&launch).await,
        Err(HoldError::Start(_))
    ));
    assert!(Hold::attach(&stage.folder()).unwrap().is_none());
    assert!(!mark.exists());
    // The same without an end does run, so that the mark means something.
    let hold = Hold::start(&stage.shell(&launch.args[1])).await.unwrap();
    assert_eq!(end_of(&hold).await, Ended::Exited(0));
    assert!(mark.exists());
}

#[tokio::test]
async fn the_guards_death_kills_nothing_and_the_next_guard_finds_it() {
    let mut cluster = Cluster::start();
    cluster.stop_immediate();
    let stage = Stage::new();
    let launch = stage.server(&cluster);
    // A guard of another process, in a group of its own as a terminal or a service manager would kill it.
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut guard = Command::new("/bin/sh")
        .args([
            "-c",
            "exec 3<&0; \"$0\" guard-part hold <&3 3<&- & exec sleep 1000",
        ])
        .arg(&launch.exe)
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    (&ours).write_all(&line(&launch).unwrap()).unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = String::new();
    BufReader::new(&ours).read_line(&mut said).unwrap();
    let started: Started = serde_json::from_str(&said).unwrap();
    let Started::Running(record) = started else {
        panic!("{said}");
    };
    until("the server answers", || cluster.answers());

    let group = Pid::from_raw(i32::try_from(guard.id()).unwrap());
    killpg(group, Signal::SIGKILL).unwrap();
    assert_eq!(guard.wait().unwrap().signal(), Some(9));
    drop(ours);

    let hold = Hold::attach(&stage.folder()).unwrap().unwrap();
    let seen = hold.state().await.unwrap();
    assert_eq!((seen.hold, seen.init), (record.hold.pid, record.init.pid));
    assert!(cluster.answers());
    // What asks politely is not for hold.
    for polite in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signal(seen.hold, polite);
    }
    let end = in_ms(500);
    hold.arm(end).await.unwrap();
    assert_eq!(end_of(&hold).await, Ended::Cut);
    assert!(BootTime::now() >= end);
    assert!(Hold::attach(&stage.folder()).unwrap().is_none());
    cluster.forget_memory();
}

#[tokio::test]
async fn a_kill_is_over_when_nothing_is_left() {
    let server = Held::start().await;
    let all = server.inside().await;
    let hold = server.hold.state().await.unwrap().hold;
    all.iter().for_each(stop);
    // One that does not answer is killed all the same.
    signal(hold, Signal::SIGSTOP);
    timeout(PATIENCE, server.hold.kill())
        .await
        .unwrap()
        .unwrap();
    assert!(all_ended(&all));
    assert!(Hold::attach(&server.stage.folder()).unwrap().is_none());
    // It repeats.
    server.hold.kill().await.unwrap();
    assert!(matches!(server.hold.state().await, Err(HoldError::Gone(_))));
}

#[tokio::test]
async fn a_hold_that_says_nothing_is_no_hold_that_obeyed() {
    let stage = Stage::new();
    let hold = Hold::start(&stage.launch("/bin/sleep", &["1000"]))
        .await
        .unwrap();
    signal(hold.state().await.unwrap().hold, Signal::SIGSTOP);
    assert!(matches!(
        hold.arm(in_ms(3_600_000)).await,
        Err(HoldError::Silent)
    ));
    hold.kill().await.unwrap();
}

#[tokio::test]
async fn what_was_asked_before_undoes_nothing_that_was_asked_after() {
    let stage = Stage::new();
    let hold = Hold::start(&stage.launch("/bin/sleep", &["1000"]))
        .await
        .unwrap();
    let end = in_ms(3_600_000);
    hold.arm(end).await.unwrap();
    let say = |asked: &str| {
        let mut stream = UnixStream::connect(stage.folder().join("hold.sock")).unwrap();
        stream.write_all(asked.as_bytes()).unwrap();
        let mut said = String::new();
        BufReader::new(stream).read_line(&mut said).unwrap();
        said
    };
    // As it would lie unread in the socket of a stopped hold.
    assert_eq!(say("{\"disarm\":{\"turn\":1}}\n"), "\"overtaken\"\n");
    assert_eq!(
        say("{\"arm\":{\"untilMs\":1,\"turn\":1}}\n"),
        "\"overtaken\"\n"
    );
    assert!(say("nonsense\n").starts_with("{\"failed\":"));
    assert_eq!(hold.state().await.unwrap().armed, Some(end));
    hold.kill().await.unwrap();
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_refused() {
    let server = Held::start().await;
    server.cluster.sql("CREATE TABLE kept AS SELECT 1 AS id");
    // By hand, outside the namespace.
    let launch = server.stage.server(&server.cluster);
    let outside = Command::new(&launch.program)
        .args(&launch.args)
        .uid(launch.uid)
        .gid(launch.gid)
        .current_dir("/")
        .output()
        .unwrap();
    assert!(!outside.status.success());
    // In another namespace, where its number may be the first one's.
    let other = Stage::new();
    let second = Launch {
        folder: other.folder(),
        log: Some(other.folder().with_file_name("log")),
        ..launch
    };
    let hold = Hold::start(&second).await.unwrap();
    assert_eq!(end_of(&hold).await, Ended::Exited(1));
    let told = String::from_utf8_lossy(&outside.stderr).into_owned();
    for said in [told, other.log()] {
        assert!(
            said.contains("shared memory block") && said.contains("still in use"),
            "{said}"
        );
    }
    assert_eq!(server.cluster.sql("SELECT id FROM kept"), "1");
}

#[tokio::test]
async fn one_folder_has_one_hold_and_a_dead_one_makes_room() {
    let stage = Stage::new();
    let launch = stage.launch("/bin/sleep", &["1000"]);
    let first = Hold::start(&launch).await.unwrap();
    assert!(matches!(Hold::start(&launch).await, Err(HoldError::Held)));
    let seen = first.state().await.unwrap();
    signal(seen.hold, Signal::SIGKILL);
    end_of(&first).await;
    let second = Hold::start(&launch).await.unwrap();
    // The first's handle moves nothing of the second.
    assert!(matches!(first.disarm().await, Err(HoldError::Gone(_))));
    first.kill().await.unwrap();
    assert_ne!(second.state().await.unwrap().hold, seen.hold);
    second.kill().await.unwrap();
}

#[tokio::test]
async fn an_orderly_end_is_told_with_its_status() {
    let server = Held::start().await;
    assert_eq!(Hold::last_end(&server.stage.folder()).unwrap(), None);
    server.hold.signal(CommandSignal::Int).await.unwrap();
    assert_eq!(end_of(&server.hold).await, Ended::Exited(0));
    let last = Hold::last_end(&server.stage.folder()).unwrap();
    assert_eq!(last, Some(Ended::Exited(0)));
    assert!(server.stage.log().contains("database system is shut down"));
    drop(server);

    for (script, ended) in [
        ("exit 3", Ended::Exited(3)),
        ("kill -KILL $$", Ended::Signalled(9)),
    ] {
        let stage = Stage::new();
        let hold = Hold::start(&stage.shell(script)).await.unwrap();
        assert_eq!(end_of(&hold).await, ended, "{script}");
    }
    let stage = Stage::new();
    let hold = Hold::start(&stage.launch("/no/such/program", &[]))
        .await
        .unwrap();
    assert_eq!(end_of(&hold).await, Ended::Exited(127));
    assert!(
        stage.log().contains("cannot run /no/such/program"),
        "{}",
        stage.log()
    );
}

#[tokio::test]
async fn what_the_command_leaves_behind_is_reaped_and_dies_with_it() {
    let stage = Stage::new();
    let script = "(true & sleep 0.1 & setsid sleep 1000 &) ; sleep 1000";
    let hold = Hold::start(&stage.shell(script)).await.unwrap();
    // The init, the shell, and two of the three sleeps: nothing that has ended waits for somebody to ask.
    let mut all = Vec::new();
    for _ in 0..500 {
        all = inside(&hold).await;
        if all.len() == 4 {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(all.len(), 4, "{:?}", pids(&all));
    signal(
        hold.state().await.unwrap().command.unwrap(),
        Signal::SIGTERM,
    );
    assert_eq!(end_of(&hold).await, Ended::Signalled(15));
    assert!(all_ended(&all));
}

#[tokio::test]
async fn the_command_has_its_own_proc_its_user_and_the_hosts_ipc() {
    let stage = Stage::new();
    let launch = Launch {
        uid: 65_534,
        gid: 65_534,
        groups: vec![4242],
        ..stage.shell(
            "echo comm $(cat /proc/$$/comm); id -u; id -G; echo $KEY; readlink /proc/self/ns/ipc; exec sleep 1000",
        )
    };
    let launch = Launch {
        env: [("PATH", "/usr/bin:/bin"), ("KEY", "value")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        ..launch
    };
    let hold = Hold::start(&launch).await.unwrap();
    let ipc = fs::read_link("/proc/self/ns/ipc").unwrap();
    let expected = format!("comm sh\n65534\n65534 4242\nvalue\n{}\n", ipc.display());
    until("it says so", || stage.log() == expected);
    let seen = hold.state().await.unwrap();
    let namespace = |pid: u32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    let own = std::process::id();
    let inner = seen.command.unwrap();
    assert_ne!(namespace(inner, "pid"), namespace(own, "pid"));
    assert_ne!(namespace(inner, "mnt"), namespace(own, "mnt"));
    assert_eq!(namespace(seen.hold, "mnt"), namespace(own, "mnt"));
    hold.kill().await.unwrap();
}
