//! text_processor: cleans a document for whoever counts, indexes or reads it next.
//!
//! `process_data` takes `{"text": ..., "document": ...}` or a bare string, answers with the cleaned text, its counts
//! and a preview, and publishes the text on the topic `text.processed.<document>`. `get_status` says how it is set up.
//!
//! Every request runs in an instance of its own, so nothing here is ever freed and nothing has to be: what the host
//! calls `allocate` for goes when the instance does.

mod host;
mod markdown;
mod unicode;

use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

const TOPIC: &str = "text.processed";

/// A topic is at most 255 bytes on the wire; a document's word takes no more of it than this.
const MAX_TOPIC_WORD: usize = 64;

/// How many characters of the cleaned text a preview shows; `[settings] preview_characters` overrides it.
static PREVIEW_CHARACTERS: AtomicUsize = AtomicUsize::new(160);

#[derive(Deserialize)]
struct PluginConfig {
    #[serde(default)]
    settings: Settings,
}

#[derive(Default, Deserialize)]
struct Settings {
    preview_characters: Option<usize>,
}

#[derive(Deserialize)]
struct PluginRequest {
    action: String,
    #[serde(default)]
    data: Value,
}

#[derive(Serialize)]
struct PluginResponse {
    success: bool,
    result: Value,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Input {
    #[serde(alias = "input")]
    text: String,
    document: Option<String>,
}

#[no_mangle]
pub extern "C" fn allocate(len: usize) -> *mut u8 {
    vec![0; len].leak().as_mut_ptr()
}

#[no_mangle]
pub extern "C" fn initialize(config_ptr: *const u8, config_len: usize) -> i32 {
    match serde_json::from_slice::<PluginConfig>(unsafe { host::bytes(config_ptr, config_len) }) {
        Ok(config) => {
            if let Some(characters) = config.settings.preview_characters {
                PREVIEW_CHARACTERS.store(characters, Ordering::Relaxed);
            }
            0
        }
        Err(problem) => {
            host::log(host::ERROR, &format!("the configuration cannot be read: {}", problem));
            -1
        }
    }
}

/// The answer's address and length, packed as `ptr << 32 | len`.
#[no_mangle]
pub extern "C" fn handle_request(request_ptr: *const u8, request_len: usize) -> u64 {
    let answer = answer(unsafe { host::bytes(request_ptr, request_len) });
    let response = match answer {
        Ok(result) => PluginResponse { success: true, result, error: None },
        Err(error) => PluginResponse { success: false, result: Value::Null, error: Some(error) },
    };
    host::pack(serde_json::to_vec(&response).unwrap_or_default())
}

#[no_mangle]
pub extern "C" fn health_check() -> i32 {
    1
}

#[no_mangle]
pub extern "C" fn shutdown() -> i32 {
    0
}

fn answer(request: &[u8]) -> Result<Value, String> {
    let request: PluginRequest =
        serde_json::from_slice(request).map_err(|problem| format!("The request cannot be read: {}", problem))?;
    match request.action.as_str() {
        "process_data" => process_data(request.data),
        "get_status" => Ok(json!({
            "status": "running",
            "version": env!("CARGO_PKG_VERSION"),
            "preview_characters": PREVIEW_CHARACTERS.load(Ordering::Relaxed),
        })),
        action => Err(format!("Unknown action: {}", action)),
    }
}

fn process_data(data: Value) -> Result<Value, String> {
    let input = match data {
        Value::String(text) => Input { text, document: None },
        data => serde_json::from_value(data).map_err(|problem| format!("The data cannot be processed: {}", problem))?,
    };
    let cleaned = unicode::clean(&input.text);
    let document = markdown::strip(&cleaned);

    let topic = topic(input.document.as_deref());
    host::send_message(
        &topic,
        &json!({"document": input.document, "text": document.text, "paragraphs": document.paragraphs}),
    )?;
    let characters = document.text.chars().count();
    host::log(host::INFO, &format!("{} characters in {} paragraphs to {}", characters, document.paragraphs, topic));

    Ok(json!({
        "document": input.document,
        "topic": topic,
        "counts": {
            "characters": characters,
            "lines": cleaned.lines().count(),
            "paragraphs": document.paragraphs,
            "headings": document.headings,
            "list_items": document.list_items,
            "code_blocks": document.code_blocks,
        },
        "preview": preview(&document.text, PREVIEW_CHARACTERS.load(Ordering::Relaxed)),
        "processed": document.text,
    }))
}

/// `text.processed.readme` for `docs/README.md`; the bare topic where nothing in the name can be a topic's word.
fn topic(document: Option<&str>) -> String {
    let name = document.unwrap_or("").rsplit(['/', '\\']).next().unwrap_or("");
    let stem = name.split('.').find(|part| !part.is_empty()).unwrap_or("");
    let word: String = stem
        .chars()
        .take(MAX_TOPIC_WORD)
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_lowercase() } else { '-' })
        .collect();
    match word.trim_matches('-') {
        "" => TOPIC.to_string(),
        word => format!("{}.{}", TOPIC, word),
    }
}

/// The text's beginning on one line, cut between words.
fn preview(text: &str, characters: usize) -> String {
    let line = text.replace("\n\n", " ");
    match line.char_indices().nth(characters) {
        None => line,
        Some((end, _)) => {
            let head = &line[..end];
            let end = if line[end..].starts_with(' ') { end } else { head.rfind(' ').unwrap_or(end) };
            format!("{}…", line[..end].trim_end())
        }
    }
}
