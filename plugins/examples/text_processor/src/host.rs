//! The host's two functions, and how bytes cross to it: as an address and a length in this instance's memory.

use serde::Deserialize;
use serde_json::{json, Value};

pub const INFO: i32 = 2;
pub const ERROR: i32 = 4;

mod import {
    #[link(wasm_import_module = "warren_v1")]
    extern "C" {
        pub fn log(level: i32, ptr: *const u8, len: usize);
        pub fn host_call(name_ptr: *const u8, name_len: usize, args_ptr: *const u8, args_len: usize) -> u64;
    }
}

/// What the host answers: `{"ok": ...}` or `{"error": {"code": ..., "message": ...}}`.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    Ok(Value),
    Error { code: String, message: String },
}

/// # Safety
/// The host wrote `len` bytes at `ptr`, at an address `allocate` gave it.
pub unsafe fn bytes<'a>(ptr: *const u8, len: usize) -> &'a [u8] {
    std::slice::from_raw_parts(ptr, len)
}

/// Hand bytes over: they stay where they are, and their address and length go into one number.
pub fn pack(bytes: Vec<u8>) -> u64 {
    let bytes = bytes.leak();
    (bytes.as_ptr() as u64) << 32 | bytes.len() as u64
}

pub fn log(level: i32, text: &str) {
    unsafe { import::log(level, text.as_ptr(), text.len()) }
}

/// Publish an event on `topic` for whoever subscribes to it. It is sent once this request has ended well.
pub fn send_message(topic: &str, payload: &Value) -> Result<(), String> {
    call("send_message", &json!({"to": null, "topic": topic, "payload": payload})).map(drop)
}

fn call(name: &str, args: &Value) -> Result<Value, String> {
    let args = args.to_string();
    let packed = unsafe { import::host_call(name.as_ptr(), name.len(), args.as_ptr(), args.len()) };
    let reply = unsafe { bytes((packed >> 32) as usize as *const u8, packed as u32 as usize) };
    match serde_json::from_slice(reply) {
        Ok(Reply::Ok(value)) => Ok(value),
        Ok(Reply::Error { code, message }) => Err(format!("{} failed: {} ({})", name, message, code)),
        Err(problem) => Err(format!("{} was answered with something else than a reply: {}", name, problem)),
    }
}
