//! What a plugin is given: the data of a request, a message, its configuration.

use serde::{de::DeserializeOwned, Deserialize, Serialize};
use serde_json::{value::RawValue, Map, Value};
use std::fmt::Display;

/// What the action `on_message` is given: an event of a topic that the manifest subscribes to, or what another plugin
/// sent to this one.
#[derive(Clone, Debug, Deserialize)]
pub struct Message<T = Value> {
    /// The plugin that sent it.
    pub from: String,
    /// The plugin that it is for; None for an event.
    pub to: Option<String>,
    pub topic: String,
    pub payload: T,
    /// When it was sent, such as `2026-03-01T12:00:00.000Z`.
    pub timestamp: String,
}

/// What `initialize` is given.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Config<T: Default = Map<String, Value>> {
    /// `[settings]` of the manifest.
    pub settings: T,
    /// What was granted, by name.
    pub capabilities: Vec<String>,
    pub environment: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    action: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Answer<'a, T> {
    success: bool,
    result: Option<T>,
    error: Option<&'a str>,
}

/// The answer to a request, as JSON. `run` gives None for an action that it does not know.
pub fn answer(request: &[u8], run: impl FnOnce(&str, &str) -> Option<Vec<u8>>) -> Vec<u8> {
    match serde_json::from_slice::<Request>(request) {
        Ok(request) => run(&request.action, request.data.map_or("null", RawValue::get))
            .unwrap_or_else(|| failed(&format!("unknown action: {}", request.action))),
        Err(problem) => failed(&format!("the request cannot be read: {}", problem)),
    }
}

/// The answer of one function to its data, as JSON.
pub fn run<T: DeserializeOwned, R: Serialize, E: Display>(
    function: impl FnOnce(T) -> Result<R, E>,
    action: &str,
    data: &str,
) -> Vec<u8> {
    let data = match serde_json::from_str(data) {
        Ok(data) => data,
        Err(problem) => return failed(&format!("the data of {}: {}", action, problem)),
    };
    match function(data) {
        Ok(result) => serde_json::to_vec(&Answer { success: true, result: Some(result), error: None })
            .unwrap_or_else(|problem| failed(&format!("the result of {}: {}", action, problem))),
        Err(problem) => failed(&problem.to_string()),
    }
}

fn failed(error: &str) -> Vec<u8> {
    let answer = Answer::<()> { success: false, result: None, error: Some(error) };
    serde_json::to_vec(&answer).expect("text can be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(request: &str) -> Value {
        let greet = |name: String| if name.is_empty() { Err("nobody") } else { Ok(format!("Hello, {}!", name)) };
        let answer = answer(request.as_bytes(), |action, data| (action == "greet").then(|| run(greet, action, data)));
        serde_json::from_slice(&answer).unwrap()
    }

    #[test]
    fn a_result_is_answered() {
        let answered = ask(r#"{"action": "greet", "data": "Ada"}"#);
        assert_eq!(answered, serde_json::json!({"success": true, "result": "Hello, Ada!", "error": null}));
    }

    #[test]
    fn an_error_is_answered_and_so_is_what_cannot_be_read() {
        for (request, error) in [
            (r#"{"action": "greet", "data": ""}"#, "nobody"),
            (r#"{"action": "greet", "data": 1}"#, "the data of greet: invalid type: integer `1`, expected a string"),
            (r#"{"action": "greet"}"#, "the data of greet: invalid type: null, expected a string"),
            (r#"{"action": "l\u0065ave"}"#, "unknown action: leave"),
            ("{", "the request cannot be read: EOF"),
        ] {
            let answered = ask(request);
            assert_eq!(answered["success"], false);
            assert!(answered["error"].as_str().unwrap().starts_with(error), "{}", answered);
        }
    }
}
