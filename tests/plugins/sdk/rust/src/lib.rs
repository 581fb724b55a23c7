//! Everything that the SDK has, once: what each action must do stands in cases.json.

use serde::Deserialize;
use serde_json::{json, Value};
use std::sync::Mutex;
use warren::{Config, Level, Message};

static WORD: Mutex<String> = Mutex::new(String::new());

#[derive(Default, Deserialize)]
struct Settings {
    word: Option<String>,
}

#[derive(Deserialize)]
struct Call {
    name: String,
    args: Value,
}

#[derive(Deserialize)]
struct Sending {
    to: Option<String>,
    topic: String,
    payload: Value,
}

fn configure(config: Config<Settings>) -> Result<(), &'static str> {
    *WORD.lock().unwrap() = config.settings.word.ok_or("there is no word in the settings")?;
    Ok(())
}

fn is_healthy() -> bool {
    *WORD.lock().unwrap() != "ill"
}

fn echo(data: Value) -> warren::Result<Value> {
    Ok(data)
}

fn word(_: Value) -> warren::Result<String> {
    Ok(WORD.lock().unwrap().clone())
}

fn log(data: String) -> warren::Result<()> {
    for level in [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error] {
        warren::log(level, &data);
    }
    Ok(())
}

fn call(data: Call) -> warren::Result<Value> {
    Ok(warren::host_call(&data.name, &data.args)?)
}

fn send(data: Sending) -> warren::Result<()> {
    match data.to {
        Some(to) => warren::send(&to, &data.topic, &data.payload)?,
        None => warren::publish(&data.topic, &data.payload)?,
    }
    Ok(())
}

fn on_message(message: Message) -> warren::Result<Value> {
    Ok(json!([message.from, message.to, message.topic, message.payload, message.timestamp]))
}

fn refuse(data: String) -> Result<(), String> {
    Err(data)
}

fn crash(data: String) -> warren::Result<()> {
    panic!("{}", data)
}

warren::initialize!(configure);
warren::health_check!(is_healthy);
warren::plugin! {
    "echo" => echo,
    "word" => word,
    "log" => log,
    "call" => call,
    "send" => send,
    "on_message" => on_message,
    "refuse" => refuse,
    "crash" => crash,
}
