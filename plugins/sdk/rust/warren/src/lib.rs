//! Warren plugins in Rust: functions by action, JSON in and out, and no pointer.
//!
//! ```ignore
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Greet {
//!     name: String,
//! }
//!
//! #[derive(Serialize)]
//! struct Greeting {
//!     greeting: String,
//! }
//!
//! fn greet(data: Greet) -> warren::Result<Greeting> {
//!     if data.name.is_empty() {
//!         return Err("there is nobody to greet".into());
//!     }
//!     warren::info!("greeting {}", data.name);
//!     Ok(Greeting { greeting: format!("Hello, {}!", data.name) })
//! }
//!
//! warren::plugin! {
//!     "greet" => greet,
//! }
//! ```
//!
//! A function takes the request's `data` as any type that serde reads, and answers with any that it writes. Its error,
//! which can be shown, becomes the request's: `{"success": false, "error": "there is nobody to greet"}`. A panic is a
//! bug: its text goes to the log, and the run ends as a trap.
//!
//! Every request runs in an instance of its own. What is kept in a `static` is gone with it, and nothing is ever freed
//! that is handed over to the host.

mod host;
mod request;

#[doc(hidden)]
pub mod export;

pub use host::{host_call, log, publish, send, HostError, Level};
pub use request::{Config, Message};

/// What a function of a plugin gives back; any other error that can be shown will do too.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
