//! The wire to PostgreSQL: where a server is, how to log in, and what its silence or its answer means.

mod conninfo;
mod error;
pub mod programs;
mod server;
mod session;
mod tls;

pub use conninfo::{ChannelBinding, Conninfo, ConninfoError, Host, TlsMode, keys, written};
pub use error::{Answer, Doing, PostgresError, Whose};
pub use server::ServerWith;
pub use session::{Login, Session};
