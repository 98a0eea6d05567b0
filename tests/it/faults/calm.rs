//! What must not lead to a failover, and must refuse nobody a write.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use super::{account, hosts, play, replaced, tell};
use crate::{
    guard_agent::{
        shop::{Shop, Wanted},
        stage::CONTROLLER,
        witness::Way,
    },
    stand::{clock::SetClock, postgres::until},
};

/// Longer than any lease of these tests can be waited for.
const LONGER: Duration = Duration::from_secs(5);

/// A shop of which nobody may notice anything.
struct Calm {
    shop: Shop,
    began: Instant,
    life: u32,
}

impl Calm {
    fn of(shop: Shop) -> Self {
        let life = shop.hosts.a.life();
        shop.witness.until_written("a");
        Self {
            shop,
            began: Instant::now(),
            life,
        }
    }

    /// That lasts so long, and nobody notices; then it is over.
    fn through(&self, what: &str, fault: impl FnOnce(&Shop)) {
        let began = Instant::now();
        fault(&self.shop);
        sleep(LONGER);
        self.check(what, began, &[Way::Local, Way::Socket, Way::Remote]);
        self.shop.network().heal();
        self.settle();
    }

    /// Nobody noticed anything since then.
    fn check(&self, what: &str, since: Instant, ways: &[Way]) {
        self.shop.witness.until_written("a");
        let refused = self.shop.witness.refused("a", since);
        let refused: Vec<_> = refused.iter().filter(|w| ways.contains(&w.way)).collect();
        assert!(refused.is_empty(), "{what}: {refused:?}");
        assert_eq!(self.shop.hosts.a.life(), self.life, "{what}");
        assert!(self.shop.records("runOpened").is_empty(), "{what}");
        let gap = self.shop.witness.longest_gap("a", since);
        tell(&format!(
            "{what}: the longest time between two writes was {gap:?}"
        ));
    }

    /// Both guards are heard again, the standby streams, and what the client had sent into the fault is over.
    fn settle(&self) {
        let all = [Way::Local, Way::Socket, Way::Remote];
        self.shop.witness.until_written_by("a", &all);
        until("all is well again", || {
            let out = self.shop.command(&["check", "shop"]).output().unwrap();
            out.status.success()
        });
    }

    fn close(self) {
        assert!(self.shop.witness.first("b").is_none());
        assert_eq!(self.shop.records("epochOpened").len(), 1);
        assert!(self.shop.records("epochRaised").is_empty());
        account::whole(&self.shop);
        tell(&format!("calm for {:?}", self.began.elapsed()));
    }
}

fn ready(wanted: &Wanted) -> Shop {
    let shop = Shop::open(wanted);
    shop.until_ready();
    shop
}

#[test]
fn a_primary_that_is_cut_off_from_one_of_the_two_goes_on() {
    play(|| {
        let calm = Calm::of(ready(&hosts()));
        calm.through("cut off from the controller", |s| {
            s.network().part("a", CONTROLLER);
        });
        calm.through("cut off from the standby", |s| s.network().part("a", "b"));
        calm.through("not heard by the controller", |s| {
            s.network().cut("a", CONTROLLER);
        });
        calm.through("does not hear the controller", |s| {
            s.network().cut(CONTROLLER, "a");
        });
        calm.through("not heard by the deputy", |s| s.network().cut("a", "b"));
        calm.through("does not hear the deputy", |s| s.network().cut("b", "a"));
        calm.close();
    });
}

#[test]
fn a_lossy_network_and_an_absent_controller_or_standby_stop_nobody() {
    play(|| {
        let mut calm = Calm::of(ready(&hosts()));
        let began = Instant::now();
        calm.shop.network().lose(40);
        sleep(LONGER * 2);
        // A client whose own packets are lost may run out of patience.
        calm.check("40 % lost", began, &[Way::Local, Way::Socket]);
        calm.shop.network().heal();
        calm.settle();

        let began = Instant::now();
        let all = [Way::Local, Way::Socket, Way::Remote];
        calm.shop.hosts.b.cut_power();
        sleep(LONGER);
        calm.check("the standby's host is off", began, &all);
        calm.shop.hosts.b.start();
        calm.settle();

        let began = Instant::now();
        calm.shop.kill();
        sleep(LONGER);
        calm.shop.witness.until_written("a");
        assert!(calm.shop.witness.refused("a", began).is_empty());

        // The deputy alone gives the lease back after a reboot.
        let rebooted = Instant::now();
        calm.shop.hosts.a.cut_power();
        calm.shop.hosts.a.start();
        calm.shop.witness.until_written("a");
        let served = Instant::now();
        println!("written again {:?} after a reboot", served - rebooted);
        calm.life = calm.shop.hosts.a.life();
        sleep(LONGER);
        calm.shop.witness.until_written("a");
        assert!(calm.shop.witness.refused("a", served).is_empty());
        calm.shop.start();
        calm.settle();
        calm.check("the controller was off", served, &all);
        calm.close();
    });
}

#[test]
fn a_network_that_takes_its_time_stops_nobody() {
    play(|| {
        let calm = Calm::of(ready(&Wanted {
            every: "6s",
            apart: Some(Duration::from_millis(300)),
            ..hosts()
        }));
        sleep(LONGER);
        let all = [Way::Local, Way::Socket, Way::Remote];
        calm.check("300 ms each way", calm.began, &all);
        calm.close();
    });
}

/// Whoever sets a clock, leases go by another one.
#[test]
fn a_clock_that_is_set_stops_nobody_and_hides_no_outage() {
    play(|| {
        let clock = SetClock::new();
        let mut shop = ready(&hosts());
        shop.kill();
        shop.env = clock.env();
        shop.start();
        for site in [&mut shop.hosts.a, &mut shop.hosts.b] {
            site.kill();
            site.env = clock.env();
            site.start();
        }
        let mut calm = Calm::of(shop);
        calm.settle();
        for (by, what) in [
            ("+3600", "clocks an hour ahead"),
            ("-3600", "clocks an hour behind"),
            ("+0", "clocks that are right again"),
        ] {
            calm.through(what, |_| clock.set(by));
        }
        clock.set("-3600");
        let fault = Instant::now();
        calm.shop.hosts.a.kill();
        replaced(&calm.shop, fault, "fenced: rung lease");
    });
}

#[test]
fn slow_leases_outlive_a_blackout() {
    play(|| {
        let calm = Calm::of(ready(&Wanted {
            lease: "10s",
            renewal: "1s",
            every: "1s",
            failures: 10,
            ..hosts()
        }));
        let began = Instant::now();
        calm.shop.network().black_out();
        sleep(Duration::from_secs(5));
        calm.shop.network().heal();
        calm.settle();
        calm.check("a blackout of 5 s", began, &[Way::Local, Way::Socket]);
        calm.close();
    });
}
