//! Flags of `failover init`.

use std::path::PathBuf;

use clap::Args;

/// `failover init`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover init --primary 'host=db1.example.com user=postgres dbname=shop' \\\n                \
    --standby 'host=db2.example.com user=postgres dbname=shop' \\\n                \
    --name shop --host shop.example.com --standby-address 192.0.2.20 --out documents\n\n\
    Writes service.yaml in observe mode, and grants.sql for the least-privileged role of the probes. Overwrites nothing.\n\
    A password is read from the string, $PGPASSWORD, or the password file ($PGPASSFILE, ~/.pgpass), and never written.\n\
    The standby may be out of reach: what could not be seen is said.")]
pub struct Init {
    /// How to reach the primary's PostgreSQL, as psql takes it.
    #[arg(long, value_name = "CONNINFO")]
    pub primary: String,
    /// How to reach the standby's PostgreSQL, as psql takes it.
    #[arg(long, value_name = "CONNINFO")]
    pub standby: String,
    /// Name of the service.
    #[arg(
        long,
        value_name = "NAME",
        help = "Name of the service [default: first label of --host, else the database]"
    )]
    pub name: Option<String>,
    /// Public name that users follow; its live records and TTL are read.
    #[arg(
        long,
        value_name = "NAME",
        help = "Public name that users follow, such as shop.example.com; without it DNS is left alone"
    )]
    pub host: Option<String>,
    /// Public address of the standby.
    #[arg(
        long,
        value_name = "ADDRESS",
        requires = "host",
        help = "Public address of the standby, or a name where --host is a CNAME; may be given more than once \
                [default: where --standby leads]"
    )]
    pub standby_address: Vec<String>,
    /// URL that tells whether the application is well.
    #[arg(
        long,
        value_name = "URL",
        help = "URL that tells whether the application is well [default: https://HOST/]"
    )]
    pub url: Option<String>,
    /// Role that grants.sql makes and the documents log in as.
    #[arg(long, value_name = "ROLE", default_value = "failover")]
    pub role: String,
    /// Ask this DNS server instead of the system's.
    #[arg(long, value_name = "ADDRESS[:PORT]", requires = "host")]
    pub dns_server: Option<String>,
    /// Folder to write to.
    #[arg(long, value_name = "DIR", default_value = "documents")]
    pub out: PathBuf,
}
