//! Loopback addresses: each demo has a block of 127.0.0.0/8 of its own, and each place in it an address.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
};

use crate::error::Error;

/// Where a thing of the demo stands within its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// The public address of the primary site.
    Primary,
    /// The primary's host behind its network.
    PrimaryHost,
    /// The standby site.
    Standby,
    /// The controller: DNS and status page.
    Controller,
    /// Mail server, X and Telegram.
    Outside,
    /// A vantage point.
    Vantage(u8),
}

/// A block of 256 loopback addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block(u8, u8);

impl Block {
    /// A block drawn by lot, so that several demos stand side by side.
    ///
    /// # Errors
    /// Where this machine has no loopback addresses beside 127.0.0.1.
    pub fn draw() -> Result<Self, Error> {
        let block = Self(rand::random_range(16..240), rand::random_range(1..250));
        let address = block.at(Spot::Primary);
        match TcpListener::bind((address, 0)) {
            Ok(_) => Ok(block),
            Err(source) => Err(Error::DemoLoopback { address, source }),
        }
    }

    /// The address of a spot.
    #[must_use]
    pub fn at(self, spot: Spot) -> IpAddr {
        let last = match spot {
            Spot::Primary => 10,
            Spot::PrimaryHost => 11,
            Spot::Standby => 20,
            Spot::Controller => 30,
            Spot::Outside => 40,
            Spot::Vantage(n) => 100 + n,
        };
        IpAddr::V4(Ipv4Addr::new(127, self.0, self.1, last))
    }

    /// Ports that are free at a spot now, each another.
    ///
    /// # Errors
    /// Where there are none.
    pub fn free<const N: usize>(self, spot: Spot) -> io::Result<[SocketAddr; N]> {
        let mut held = Vec::with_capacity(N);
        let mut free = [SocketAddr::new(self.at(spot), 0); N];
        for address in &mut free {
            let listener = TcpListener::bind((self.at(spot), 0))?;
            *address = listener.local_addr()?;
            // Held until all are found.
            held.push(listener);
        }
        Ok(free)
    }

    /// A port that is free at both spots now.
    ///
    /// # Errors
    /// Where none is.
    pub fn free_at_both(self, one: Spot, other: Spot) -> io::Result<u16> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..50 {
            let first = TcpListener::bind((self.at(one), 0))?;
            let port = first.local_addr()?.port();
            match TcpListener::bind((self.at(other), port)) {
                Ok(_) => return Ok(port),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}
