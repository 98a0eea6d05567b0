//! The units of `examples/systemd`: what systemd says of them, what their scripts leave behind, and a guard below a
//! real systemd, booted in namespaces of its own over a view of this machine that forgets what is written.

use std::{
    fs,
    io::Read,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::stand::postgres::until;

const UNITS: [&str; 3] = ["failover-guard", "failover-controller", "failover-vantage"];

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/systemd")
        .join(name)
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn program(path: &Path, text: &str) {
    write(path, text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn said(out: &Output) -> String {
    [&out.stdout, &out.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

/// Every file and folder below, with what is in it.
fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.push((path.clone(), Vec::new()));
            found.extend(tree(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn systemd_finds_no_fault_with_any_unit() {
    let root = TempDir::with_prefix("failover-units-").unwrap();
    let units = root.path().join("etc/systemd/system");
    for path in ["usr/local/bin/failover", "bin/kill"] {
        program(&root.path().join(path), "#!/bin/sh\n");
    }
    for target in [
        "sysinit",
        "basic",
        "multi-user",
        "shutdown",
        "network-online",
        "umount",
    ] {
        let text = "[Unit]\nDescription=stub\nDefaultDependencies=no\n";
        write(&units.join(format!("{target}.target")), text);
    }
    let verify = |unit: &str| {
        Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(format!("--root={}", root.path().display()))
            .arg(unit)
            .output()
            .unwrap()
    };
    for unit in UNITS.map(|name| format!("{name}.service")) {
        fs::copy(shipped(&unit), units.join(&unit)).unwrap();
        let out = verify(&unit);
        assert!(
            out.status.success() && said(&out).is_empty(),
            "{unit}: {}",
            said(&out)
        );
    }
    let folder = units.join("failover-guard.service.d");
    write(&folder.join("wrong.conf"), "[Service]\nNoSuchThing=yes\n");
    assert!(said(&verify("failover-guard.service")).contains("NoSuchThing"));
}

#[test]
fn nothing_in_the_guards_unit_takes_the_database_from_the_next_guard() {
    let text = fs::read_to_string(shipped("failover-guard.service")).unwrap();
    let keys: Vec<(&str, &str)> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .collect();
    // What makes a mount namespace, or an IPC namespace of its own.
    let apart = [
        "BindPaths",
        "BindReadOnlyPaths",
        "DynamicUser",
        "ExecPaths",
        "InaccessiblePaths",
        "MountAPIVFS",
        "NoExecPaths",
        "PrivateDevices",
        "PrivateIPC",
        "PrivateMounts",
        "PrivateNetwork",
        "PrivateTmp",
        "PrivateUsers",
        "ProcSubset",
        "ProtectControlGroups",
        "ProtectHome",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "ProtectProc",
        "ProtectSystem",
        "ReadOnlyPaths",
        "ReadWritePaths",
        "RootDirectory",
        "RootImage",
        "TemporaryFileSystem",
    ];
    let wrong: Vec<_> = keys.iter().filter(|(key, _)| apart.contains(key)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    for wanted in [
        ("KillMode", "process"),
        ("RuntimeDirectoryPreserve", "yes"),
        ("Restart", "always"),
        ("StartLimitIntervalSec", "0"),
    ] {
        assert!(keys.contains(&wanted), "{wanted:?}");
    }
    let drop_in = fs::read_to_string(shipped("postgresql-under-guard.conf")).unwrap();
    assert!(drop_in.contains("\nConditionPathExists=!/etc/failover/guard.yaml\n"));
}

const UNIT: &str = "postgresql@15-main.service";
const DATA: &str = "srv/pg";

/// A root with a data directory, and stand-ins for what the scripts call.
struct Host {
    root: TempDir,
    tools: TempDir,
}

impl Host {
    fn new(was_standby: bool) -> Self {
        let host = Self {
            root: TempDir::with_prefix("failover-root-").unwrap(),
            tools: TempDir::with_prefix("failover-tools-").unwrap(),
        };
        let document = format!("service: shop\nsite: paris\ndatabase:\n  dataDir: /{DATA}\n");
        write(&host.path("etc/failover/guard.yaml"), &document);
        write(&host.path(&format!("{DATA}/PG_VERSION")), "15\n");
        for folder in [
            "etc/systemd/system",
            "run/systemd/system",
            "var/lib",
            "usr/local/bin",
        ] {
            fs::create_dir_all(host.path(folder)).unwrap();
        }
        if was_standby {
            write(&host.signal(), "");
        }
        // What the guard says; it puts the file at its start, and ends the server when its unit is stopped.
        program(
            &host.tool("failover"),
            &format!("#!/bin/sh\ncat '{}'\n", host.tool("status").display()),
        );
        program(
            &host.tool("systemctl"),
            &format!(
                "#!/bin/sh\necho \"$*\" >>'{log}'\ncase $1 in\nstart | restart) : >'{signal}'; : >'{pid}' ;;\n\
                 stop) [ -e '{hangs}' ] || rm -f '{pid}' ;;\nesac\n",
                log = host.tool("log").display(),
                signal = host.signal().display(),
                pid = host.path(&format!("{DATA}/postmaster.pid")).display(),
                hangs = host.tool("hangs").display(),
            ),
        );
        program(
            &host.tool("nft"),
            &format!(
                "#!/bin/sh\ncase $1 in\nlist) cat '{tables}' ;;\ndelete) grep -v \" $4\\$\" '{tables}' >'{tables}.new'\n\
                 mv '{tables}.new' '{tables}' ;;\nesac\n",
                tables = host.tool("tables").display(),
            ),
        );
        write(
            &host.tool("tables"),
            "table inet filter\ntable inet failover-shop.paris\ntable inet failover-shopping.rome\n",
        );
        // Nothing here is decided by time.
        program(&host.tool("sleep"), "#!/bin/sh\n");
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn tool(&self, name: &str) -> PathBuf {
        self.tools.path().join(name)
    }

    fn signal(&self) -> PathBuf {
        self.path(&format!("{DATA}/standby.signal"))
    }

    fn run(&self, script: &str, args: &[&str]) -> Output {
        let path = format!(
            "{}:/usr/sbin:/usr/bin:/sbin:/bin",
            self.tools.path().display()
        );
        Command::new("/bin/sh")
            .arg(shipped(script))
            .args(args)
            .env("PATH", path)
            .env("DESTDIR", self.root.path())
            .output()
            .unwrap()
    }

    fn install(&self) -> Output {
        let program = self.tool("failover");
        let program = program.to_str().unwrap();
        self.run(
            "install.sh",
            &["guard", "--database-unit", UNIT, "--program", program],
        )
    }

    /// The guard has run, and says this.
    fn guarded(&self, promise: &str, leased: bool) {
        write(&self.path("var/lib/failover/guard/promise.0"), "kept");
        write(&self.path("run/failover/shop/hold.json"), "{}");
        write(&self.signal(), "");
        let status = format!(
            r#"{{"report":{{"site":"paris","boot":1,"promise":{promise},"database":"following","canFence":true,"leased":{leased}}},"left":null,"dropped":{{}}}}"#
        );
        write(&self.tool("status"), &status);
    }
}

fn promise(epoch: u64, role: &str) -> String {
    format!(r#"{{"epoch":{epoch},"role":"{role}","terms":null,"longest":"0s","starts":1}}"#)
}

#[test]
fn what_is_installed_and_taken_off_leaves_the_host_as_it_was() {
    for was_standby in [false, true] {
        let host = Host::new(was_standby);
        let before = tree(host.root.path());
        for _ in 0..2 {
            let out = host.install();
            assert!(out.status.success(), "{}", said(&out));
        }
        assert!(
            host.path(&format!("etc/systemd/system/{UNIT}.d/failover-guard.conf"))
                .exists()
        );
        assert!(
            host.path("etc/systemd/system/failover-guard.service")
                .exists()
        );

        let epoch_of_a_primary = promise(3, "primary");
        let epoch_of_a_standby = promise(3, "standby");
        let promised = if was_standby {
            epoch_of_a_standby
        } else {
            epoch_of_a_primary
        };
        host.guarded(&promised, !was_standby);
        for _ in 0..2 {
            let out = host.run("uninstall.sh", &["guard"]);
            assert!(out.status.success(), "{}", said(&out));
        }
        assert!(
            host.path("var/lib/failover/guard/promise.0").exists(),
            "state is kept"
        );
        assert_eq!(host.signal().exists(), was_standby);
        let tables = fs::read_to_string(host.tool("tables")).unwrap();
        assert_eq!(
            tables,
            "table inet filter\ntable inet failover-shopping.rome\n"
        );

        let out = host.run("uninstall.sh", &["guard", "--purge"]);
        assert!(out.status.success(), "{}", said(&out));
        assert_eq!(tree(host.root.path()), before);
    }
}

#[test]
fn a_database_comes_back_as_what_its_site_is_or_nothing_changes() {
    const PRIMARY: &[&str] = &["--site-is-primary"];
    const STANDBY: &[&str] = &["--site-is-standby"];
    // What the guard promised, whether it has a lease, whether the data was a standby's, what a person says: what it
    // starts as, or nothing where the script refuses.
    let cases = [
        (promise(3, "primary"), true, false, &[][..], Some("primary")),
        (promise(3, "primary"), true, true, &[], Some("primary")),
        (promise(3, "primary"), true, false, STANDBY, None),
        (promise(3, "primary"), false, false, &[], None),
        (
            promise(3, "primary"),
            false,
            false,
            PRIMARY,
            Some("primary"),
        ),
        (
            promise(3, "primary"),
            false,
            false,
            STANDBY,
            Some("standby"),
        ),
        (promise(3, "standby"), false, false, &[], Some("standby")),
        (promise(3, "standby"), false, true, PRIMARY, None),
        (promise(0, "standby"), false, true, &[], Some("standby")),
        (promise(0, "standby"), false, false, &[], None),
        (
            promise(0, "standby"),
            false,
            false,
            PRIMARY,
            Some("primary"),
        ),
        (promise(3, "fenced"), false, false, &[], None),
        (promise(3, "fenced"), false, false, PRIMARY, None),
        (promise(3, "fenced"), false, false, STANDBY, Some("standby")),
        ("null".to_owned(), false, false, &[], None),
        ("null".to_owned(), false, false, STANDBY, Some("standby")),
    ];
    for (promised, leased, was_standby, word, expected) in cases {
        let host = Host::new(was_standby);
        assert!(host.install().status.success());
        host.guarded(&promised, leased);
        let before = tree(host.root.path());
        let out = host.run("uninstall.sh", &[&["guard"], word].concat());
        let case = format!("{promised} {leased} {was_standby} {word:?}: {}", said(&out));
        let Some(expected) = expected else {
            assert_eq!(out.status.code(), Some(1), "{case}");
            assert_eq!(tree(host.root.path()), before, "{case}");
            continue;
        };
        assert!(out.status.success(), "{case}");
        assert_eq!(host.signal().exists(), expected == "standby", "{case}");
        assert!(
            !host
                .path("etc/systemd/system/failover-guard.service")
                .exists(),
            "{case}"
        );
    }
}

#[test]
fn nothing_is_taken_off_while_the_database_has_not_ended_in_order() {
    let host = Host::new(false);
    assert!(host.install().status.success());
    host.guarded(&promise(3, "primary"), true);
    write(&host.tool("hangs"), "");
    let out = host.run("uninstall.sh", &["guard"]);
    assert!(
        !out.status.success() && said(&out).contains("postmaster.pid"),
        "{}",
        said(&out)
    );
    assert!(
        host.path("etc/systemd/system/failover-guard.service")
            .exists()
    );
    assert!(host.signal().exists());
    // The next stop of the guard leaves the database again.
    assert!(
        tree(&host.path("run/systemd"))
            .iter()
            .all(|(path, _)| path.is_dir())
    );
}

#[test]
fn what_is_not_ours_is_neither_written_over_nor_removed() {
    let host = Host::new(false);
    let unit = host.path("etc/systemd/system/failover-guard.service");
    write(&unit, "[Service]\nExecStart=/bin/true\n");
    let out = host.install();
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    host.guarded(&promise(3, "primary"), true);
    let out = host.run("uninstall.sh", &["guard"]);
    assert!(
        out.status.success() && said(&out).contains("not ours"),
        "{}",
        said(&out)
    );
    assert_eq!(
        fs::read_to_string(&unit).unwrap(),
        "[Service]\nExecStart=/bin/true\n"
    );
}

/// Makes a root that is this machine's own below an overlay, so that nothing written in it is kept, and starts
/// systemd in it with units of its own alone. Without that systemd would empty this machine's folder for temporary
/// files, set its kernel, and make its devices.
const BOOT: &str = r#"
set -eu
mount --make-rprivate /
mount -t tmpfs -o size=4g tmpfs "$TOP/over"
mkdir "$TOP/over/up" "$TOP/over/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$TOP/over/up,workdir=$TOP/over/work" "$TOP/new"
new=$TOP/new
mount -t proc proc "$new/proc"
mount --bind "$new/proc/sys" "$new/proc/sys"
mount -o remount,bind,ro "$new/proc/sys"
mount -t sysfs -o ro sysfs "$new/sys"
mount -t cgroup2 cgroup2 "$new/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$new/dev"
for node in 'null 1 3' 'zero 1 5' 'full 1 7' 'random 1 8' 'urandom 1 9' 'tty 5 0'; do
    set -- $node
    mknod -m 666 "$new/dev/$1" c "$2" "$3"
done
mkdir "$new/dev/pts" "$new/dev/shm"
mount -t tmpfs tmpfs "$new/dev/shm"
ln -s /proc/self/fd "$new/dev/fd"
: >"$new/dev/console"
mount -t tmpfs -o mode=755 tmpfs "$new/run"
mount -t tmpfs -o mode=1777 tmpfs "$new/tmp"
install -d -o postgres -g postgres "$new/run/postgresql"
mkdir "$new/run/given"
cp "$PROGRAM" "$new/run/given/failover"
cp "$UNITS"/* "$new/run/given/"
cp "$new/usr/lib/systemd/system/postgresql@.service" "$new/run/given/"
mount -t tmpfs -o mode=755 tmpfs "$new/usr/lib/systemd/system"
mv "$new/run/given/postgresql@.service" "$new/usr/lib/systemd/system/"
for target in sysinit basic multi-user shutdown network network-online; do
    printf '[Unit]\nDescription=stub\nDefaultDependencies=no\n' >"$new/usr/lib/systemd/system/$target.target"
done
for folder in usr/lib/systemd/system-generators usr/lib/systemd/system-environment-generators etc/systemd/system \
    etc/postgresql var/lib/postgresql usr/local/bin; do
    mount -t tmpfs -o mode=755 tmpfs "$new/$folder"
done
mkdir -p "$new/etc/failover" "$new/var/lib/failover"
mount -t tmpfs -o mode=755 tmpfs "$new/etc/failover"
mount -t tmpfs -o mode=755 tmpfs "$new/var/lib/failover"
mkdir "$new/old"
cd "$new"
pivot_root . old
umount -l /old
rmdir /old
# What systemd mounts has to reach units, and the machine's own mounts are out of reach by now.
mount --make-rshared /
ip link set lo up
! grep -qE ' - (ext4|xfs|btrfs|devtmpfs) ' /proc/self/mountinfo || { echo 'a disk is mounted'; exit 9; }
! (cat /proc/sys/kernel/panic >/proc/sys/kernel/panic) 2>/dev/null || { echo 'the kernel can be set'; exit 9; }
[ -z "$(ls -A /tmp)" ] || { echo 'the folder for temporary files is not its own'; exit 9; }
exec setpriv --bounding-set=-sys_module,-sys_time,-sys_boot,-sys_rawio,-mknod,-syslog,-mac_admin,-mac_override \
    env -i container=failover PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_UNIT_PATH="$UNIT_PATH" \
    /lib/systemd/systemd --system --log-target=console --unit=multi-user.target
"#;

const UNIT_PATH: &str = "/etc/systemd/system:/run/systemd/system:/usr/lib/systemd/system";

/// Inside. Each line that says `ok` is one thing that was seen.
const PLAY: &str = r#"
set -eu
version=$(ls /usr/lib/postgresql | sort -V | tail -n1)
unit=postgresql@$version-main.service
data=/var/lib/postgresql/$version/main
given=/run/given
document=/etc/failover/guard.yaml
fail() { echo "FAILED: $*"; tail -n 20 /run/guard.log 2>/dev/null || true; exit 1; }
seen() { # WHAT COMMAND…
    what=$1 tries=0
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || fail "not seen in 30 s: $what"
        sleep 0.1
    done
    echo "ok: $what"
}
sql() { su postgres -c "psql -XAtq -c \"$1\""; }
follows() { /usr/local/bin/failover guard status -f $document | grep -q following; }
server() { pgrep -o -u postgres -f "^/usr/lib/postgresql/$version/bin/postgres"; }
guard() { systemctl show -p MainPID --value failover-guard; }
is_another() { now=$(guard); [ "$now" -gt 1 ] && [ "$now" != "$1" ] && follows; }
same() { [ "$(server)" = "$first" ] || fail "the database was started anew $1"; echo "ok: the same database $1"; }

pg_createcluster "$version" main >/dev/null
systemctl start "$unit"
seen 'the distribution starts the database' sql 'SELECT 1'
port=$(sql 'SHOW port')
sql 'CREATE TABLE orders AS SELECT 1 AS n'
sql 'CREATE ROLE failover LOGIN'
sql 'ALTER SYSTEM SET restart_after_crash = off'
sed -i '1i local postgres failover peer map=guard' "/etc/postgresql/$version/main/pg_hba.conf"
echo 'guard root failover' >>"/etc/postgresql/$version/main/pg_ident.conf"
systemctl stop "$unit"

$given/failover guard keygen --key /etc/failover/guard.key >/dev/null
other=$($given/failover guard keygen --key /run/controller.key)
cat >$document <<DOCUMENT
service: shop
site: paris
listen: 127.0.0.1:7400
key: {file: /run/credentials/failover-guard.service/guard.key}
controller: {name: dr, address: '127.0.0.1:7401', publicKey: $other}
state: /var/lib/failover/guard
database:
  program: /usr/lib/postgresql/$version/bin/postgres
  args: [-D, $data, -c, config_file=/etc/postgresql/$version/main/postgresql.conf]
  user: postgres
  dataDir: $data
  listen: ['127.0.0.1:$port']
  connection: host=/run/postgresql port=$port user=failover dbname=postgres
  logFile: /var/log/postgresql/guarded.log
DOCUMENT
sh $given/install.sh guard --database-unit "$unit" --program $given/failover
mkdir /etc/systemd/system/failover-guard.service.d
cat >/etc/systemd/system/failover-guard.service.d/site.conf <<DROPIN
[Service]
LoadCredential=guard.key:/etc/failover/guard.key
StandardOutput=append:/run/guard.log
StandardError=append:/run/guard.log
DROPIN
systemctl daemon-reload
/usr/local/bin/failover guard init -f $document
systemctl start "$unit"
! systemctl is-active --quiet "$unit" || fail 'the distribution started a guarded database'
echo 'ok: the distribution does not start it'

systemctl enable --now failover-guard
seen 'the guard starts the database' follows
first=$(server)
[ "$(readlink /proc/1/ns/mnt)" = "$(readlink "/proc/$(guard)/ns/mnt")" ] || fail 'the guard has a mount namespace'
was=$(guard)
kill -KILL "$was"
seen 'a killed guard comes back' is_another "$was"
same 'after a kill of the guard'
[ "$(sql 'SELECT count(*) FROM orders')" = 1 ] || fail 'it does not answer'
systemctl restart failover-guard
seen 'it is found after a restart' follows
same 'after a restart of the unit'
systemctl stop failover-guard
same 'after a stop of the unit'
[ "$(sql 'SELECT count(*) FROM orders')" = 1 ] || fail 'it does not answer'
systemctl start failover-guard
seen 'it is found after a stop' follows
same 'after a start of the unit'

! sh $given/uninstall.sh guard || fail 'a site that nobody knows was taken off'
same 'after a refusal'
sh $given/uninstall.sh guard --site-is-primary --purge
! server || fail 'the database still runs'
[ -z "$(nft list tables)" ] || fail 'the gate is left'
rm -r /etc/systemd/system/failover-guard.service.d
for left in /etc/systemd/system /run/failover /usr/local/bin /var/lib/failover; do
    [ ! -e $left ] || [ -z "$(ls -A $left)" ] || fail "left behind in $left: $(ls -A $left)"
done
systemctl start "$unit"
seen 'the distribution starts it again' sql 'INSERT INTO orders VALUES (2)'
[ "$(sql 'SELECT count(*) FROM orders WHERE NOT pg_is_in_recovery()')" = 2 ] || fail 'orders are lost'
systemctl stop "$unit"
echo 'ALL SEEN'
"#;

/// A booted systemd; everything of it goes with this.
struct Booted {
    child: Child,
    group: PathBuf,
    _top: TempDir,
}

impl Booted {
    fn boot() -> Self {
        let top = TempDir::with_prefix("failover-boot-").unwrap();
        for folder in ["over", "new"] {
            fs::create_dir(top.path().join(folder)).unwrap();
        }
        let group = unified().join(format!("failover-boot-{}", std::process::id()));
        fs::create_dir(&group).unwrap();
        let script = format!("echo $$ >'{}/cgroup.procs'\nexec \"$@\"", group.display());
        let child = Command::new("/bin/sh")
            .args([
                "-c",
                &script,
                "sh",
                "unshare",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount",
                "--uts",
                "--cgroup",
            ])
            .args([
                "--net",
                "--ipc",
                "--propagation",
                "private",
                "sh",
                "-c",
                BOOT,
            ])
            .env("TOP", top.path())
            .env("PROGRAM", env!("CARGO_BIN_EXE_failover"))
            .env("UNITS", shipped(""))
            .env("UNIT_PATH", UNIT_PATH)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut booted = Self {
            child,
            group,
            _top: top,
        };
        until("systemd has booted", || booted.answers());
        booted
    }

    fn answers(&mut self) -> bool {
        if self.child.try_wait().unwrap().is_some() {
            let mut said = String::new();
            self.child
                .stdout
                .take()
                .unwrap()
                .read_to_string(&mut said)
                .unwrap();
            panic!("it does not boot: {said}");
        }
        self.init().is_some()
            && self
                .inside("systemctl is-system-running")
                .is_some_and(|out| said(&out).contains("running"))
    }

    /// The first process inside, as it is numbered out here.
    fn init(&self) -> Option<u32> {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    fn inside(&self, script: &str) -> Option<Output> {
        // Not before systemd itself is there: until then the namespaces are half made.
        let init = self.init()?;
        let exe = fs::read_link(format!("/proc/{init}/exe")).ok()?;
        if !exe.ends_with("systemd") {
            return None;
        }
        let out = Command::new("nsenter")
            .args(["-t", &init.to_string(), "-a", "env", "-i", "LC_ALL=C.UTF-8"])
            .arg("PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .arg(format!("SYSTEMD_UNIT_PATH={UNIT_PATH}"))
            .args(["sh", "-c", script])
            .output();
        Some(out.unwrap())
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // Its child dies with it, and everything in the namespace with that.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let is_empty = || {
            let events = fs::read_to_string(self.group.join("cgroup.events"));
            events.is_ok_and(|text| text.contains("populated 0"))
        };
        until("nothing of it runs", is_empty);
        remove_groups(&self.group);
    }
}

fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

/// Where the kernel's second version of cgroups is mounted.
fn unified() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let place = mount.and_then(|line| line.split(' ').nth(4));
    place.expect("cgroup version 2 is not mounted").into()
}

#[test]
fn below_systemd_the_database_outlives_its_guards_and_comes_back_as_it_was() {
    // It boots a whole system in namespaces of its own: for the nightly run, which sets this.
    if std::env::var_os("FAILOVER_NIGHTLY").is_none() {
        return;
    }
    let booted = Booted::boot();
    let out = booted.inside(PLAY).unwrap();
    assert!(
        out.status.success() && out.stdout.ends_with(b"ALL SEEN\n"),
        "{}",
        said(&out)
    );
}

#[test]
fn the_service_manager_hears_that_the_controller_is_ready_alive_and_about_to_end() {
    let folder = TempDir::with_prefix("failover-notify-").unwrap();
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_mins(1)))
        .unwrap();
    let document = "apiVersion: failover.rs/v1alpha1\nkind: ProtectedService\nmetadata: {name: shop}\nspec:\n  \
                    objectives: {rto: 5m, rpo: 1m}\n  sites:\n    - {name: east, role: primary}\n    - \
                    {name: west, role: standby}\n  components:\n    - name: app\n      kind: application\n      \
                    probes: [{uses: probe/tcp, site: east, with: {host: 127.0.0.1, port: 1}}]\n  \
                    runbook: nothing\n---\napiVersion: failover.rs/v1alpha1\nkind: Runbook\nmetadata: {name: \
                    nothing}\nspec:\n  title: Nothing\n  steps: [{id: verify, uses: service/verify}]\n";
    write(&folder.path().join("shop.yaml"), document);
    let mut controller = Command::new(env!("CARGO_BIN_EXE_failover"))
        .args(["run", "--listen", "off", "--metrics", "off", "-f"])
        .arg(folder.path().join("shop.yaml"))
        .arg("--state")
        .arg(folder.path().join("state"))
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "100000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let heard = || {
        let mut said = [0; 64];
        let length = manager.recv(&mut said).unwrap();
        String::from_utf8_lossy(&said[..length]).into_owned()
    };
    assert_eq!(heard(), "READY=1\n");
    for _ in 0..3 {
        assert_eq!(heard(), "WATCHDOG=1\n");
    }
    kill(
        Pid::from_raw(i32::try_from(controller.id()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    while heard() != "STOPPING=1\n" {}
    assert!(controller.wait().unwrap().success());
}
