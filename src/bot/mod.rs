//! The incident commander's bot: what it says and understands, whatever chat it speaks in.
//!
//! It knows people by the numbers that the documents give them, and asks and commands at the desk as every other front
//! end does. It decides nothing, and what it may not do is refused there. Only whoever leads runs it.

mod card;
mod flood;
mod phrase;
mod press;
mod roster;
mod session;
mod shown;
mod talk;
mod teller;
mod ticket;

pub use roster::serve;
