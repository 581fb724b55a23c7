//! {{name}}: greets, and counts words. Every request runs in an instance of its own.

use serde::{Deserialize, Serialize};
use warren::Message;

#[derive(Deserialize)]
struct Greet {
    name: Option<String>,
}

#[derive(Serialize)]
struct Greeting {
    greeting: String,
}

/// `{"name": "Ada"}` is answered with `{"greeting": "Hello, Ada!"}`.
fn greet(data: Greet) -> warren::Result<Greeting> {
    let name = data.name.filter(|name| !name.is_empty()).ok_or("there is nobody to greet")?;
    warren::info!("greeting {}", name);
    Ok(Greeting { greeting: format!("Hello, {}!", name) })
}

#[derive(Deserialize)]
struct Text {
    text: String,
}

#[derive(Serialize)]
struct Words {
    words: usize,
}

fn count(data: Text) -> warren::Result<Words> {
    Ok(Words { words: data.text.split_whitespace().count() })
}

/// An event of a topic in `[bus] subscribe`: whoever comes is greeted, for all to hear.
fn on_message(message: Message<Greet>) -> warren::Result<()> {
    let greeting = greet(message.payload)?;
    warren::publish("greetings", &greeting)?;
    Ok(())
}

warren::plugin! {
    "greet" => greet,
    "count" => count,
    "on_message" => on_message,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_spaces_part() {
        assert_eq!(count(Text { text: " two\nwords ".into() }).unwrap().words, 2);
    }
}
