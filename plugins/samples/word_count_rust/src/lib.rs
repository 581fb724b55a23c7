//! word_count: how many words a text has, and which it has most often.

use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::HashMap;

/// How many of the most frequent words are told.
const MOST: usize = 5;

#[derive(Deserialize)]
struct Text {
    text: String,
}

#[derive(Serialize)]
struct Words {
    words: usize,
    distinct: usize,
    most_frequent: Vec<Frequency>,
}

#[derive(Serialize)]
struct Frequency {
    word: String,
    count: usize,
}

fn count(data: Text) -> warren::Result<Words> {
    let text = data.text.to_ascii_lowercase();
    let mut words = 0;
    let mut counts = HashMap::new();
    for word in text.split(is_between_words).filter(|word| !word.is_empty()) {
        words += 1;
        *counts.entry(word).or_insert(0) += 1;
    }
    if words == 0 {
        return Err("there are no words in the text".into());
    }
    let distinct = counts.len();
    let mut most_frequent: Vec<(&str, usize)> = counts.into_iter().collect();
    most_frequent.sort_unstable_by_key(|&(word, count)| (Reverse(count), word));
    most_frequent.truncate(MOST);
    let most_frequent = most_frequent.into_iter().map(|(word, count)| Frequency { word: word.into(), count }).collect();
    warren::info!("{} words, {} of them distinct", words, distinct);
    Ok(Words { words, distinct, most_frequent })
}

fn is_between_words(c: char) -> bool {
    c.is_ascii() && !c.is_ascii_alphanumeric()
}

warren::plugin! {
    "count" => count,
}
