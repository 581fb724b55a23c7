//! What a plugin asks the host for: a line in the log, and any host function by its name.

use serde::{de::DeserializeOwned, Deserialize, Serialize};
use std::fmt;

/// How much a line in the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// Write a line into the log of this run; `info!` and its like format it first.
pub fn log(level: Level, text: &str) {
    import::log(level, text)
}

#[macro_export]
macro_rules! trace { ($($text:tt)+) => { $crate::log($crate::Level::Trace, &format!($($text)+)) } }
#[macro_export]
macro_rules! debug { ($($text:tt)+) => { $crate::log($crate::Level::Debug, &format!($($text)+)) } }
#[macro_export]
macro_rules! info { ($($text:tt)+) => { $crate::log($crate::Level::Info, &format!($($text)+)) } }
#[macro_export]
macro_rules! warn { ($($text:tt)+) => { $crate::log($crate::Level::Warn, &format!($($text)+)) } }
#[macro_export]
macro_rules! error { ($($text:tt)+) => { $crate::log($crate::Level::Error, &format!($($text)+)) } }

/// Why the host did not do what it was asked for. `code` is for programs, such as `invalid_arguments`.
#[derive(Clone, Debug, Deserialize)]
pub struct HostError {
    pub code: String,
    pub message: String,
}

impl fmt::Display for HostError {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for HostError {}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply<T> {
    Ok(T),
    Error(HostError),
}

/// Call a host function: `host_call("storage_get", &json!({"key": "users/1"}))`.
///
/// The host refuses with an error. What a plugin was not granted is no error: its run ends as `denied`.
pub fn host_call<T: DeserializeOwned>(name: &str, arguments: &impl Serialize) -> Result<T, HostError> {
    let reply = import::host_call(name, &serde_json::to_vec(arguments).map_err(unreadable("invalid_arguments"))?);
    match serde_json::from_slice(&reply).map_err(unreadable("unexpected_answer"))? {
        Reply::Ok(value) => Ok(value),
        Reply::Error(error) => Err(error),
    }
}

fn unreadable(code: &str) -> impl Fn(serde_json::Error) -> HostError + '_ {
    move |problem| HostError { code: code.into(), message: problem.to_string() }
}

#[derive(Serialize)]
struct Sent<'a, T: ?Sized> {
    to: Option<&'a str>,
    topic: &'a str,
    payload: &'a T,
}

/// Publish an event for whoever subscribes to the topic. It is sent once this run has ended well.
pub fn publish(topic: &str, payload: &(impl Serialize + ?Sized)) -> Result<(), HostError> {
    host_call("send_message", &Sent { to: None, topic, payload })
}

/// Send a message to one plugin, which gets it as the action `on_message`, once this run has ended well.
pub fn send(to: &str, topic: &str, payload: &(impl Serialize + ?Sized)) -> Result<(), HostError> {
    host_call("send_message", &Sent { to: Some(to), topic, payload })
}

#[cfg(target_arch = "wasm32")]
mod import {
    use super::Level;

    mod warren_v1 {
        #[link(wasm_import_module = "warren_v1")]
        extern "C" {
            pub fn log(level: i32, at: *const u8, len: usize);
            pub fn host_call(name_at: *const u8, name_len: usize, args_at: *const u8, args_len: usize) -> u64;
        }
    }

    pub fn log(level: Level, text: &str) {
        unsafe { warren_v1::log(level as i32, text.as_ptr(), text.len()) }
    }

    pub fn host_call(name: &str, arguments: &[u8]) -> Vec<u8> {
        // The host wrote its reply where `allocate` told it to, as a vector of exactly that length.
        unsafe {
            let packed = warren_v1::host_call(name.as_ptr(), name.len(), arguments.as_ptr(), arguments.len());
            let len = packed as u32 as usize;
            Vec::from_raw_parts((packed >> 32) as usize as *mut u8, len, len)
        }
    }
}

/// Outside of a sandbox, as in `cargo test`: lines go to stderr, and there are no host functions.
#[cfg(not(target_arch = "wasm32"))]
mod import {
    use super::Level;

    pub fn log(level: Level, text: &str) {
        eprintln!("{:?}: {}", level, text)
    }

    pub fn host_call(name: &str, _arguments: &[u8]) -> Vec<u8> {
        let message = format!("there is no host here to call {} of", name);
        let error = serde_json::json!({"error": {"code": "unavailable", "message": message}});
        error.to_string().into_bytes()
    }
}
