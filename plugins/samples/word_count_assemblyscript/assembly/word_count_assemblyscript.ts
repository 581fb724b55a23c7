// word_count: how many words a text has, and which it has most often.

import { Answer, fail, info, Json, ok, on } from "../../../sdk/assemblyscript/warren";
export { allocate, handle_request } from "../../../sdk/assemblyscript/warren";

/** How many of the most frequent words are told. */
const MOST = 5;

class Frequency {
  constructor(readonly word: string, readonly count: i32) {}
}

on("count", (data: Json): Answer => {
  const text = data.get("text");
  if (!text.isString) return fail("there is no text in the data");

  const words = wordsOf(text.text);
  if (words.length == 0) return fail("there are no words in the text");

  const counts = new Map<string, i32>();
  for (let i = 0; i < words.length; i++) {
    counts.set(words[i], (counts.has(words[i]) ? counts.get(words[i]) : 0) + 1);
  }

  info(`${words.length} words, ${counts.size} of them distinct`);
  return ok(
    Json.object()
      .set("words", Json.integer(words.length))
      .set("distinct", Json.integer(counts.size))
      .set("most_frequent", mostFrequent(counts)),
  );
});

function wordsOf(text: string): string[] {
  const words: string[] = [];
  const word: i32[] = [];
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (isUpper(c)) word.push(c + 0x20);
    else if (isInWord(c)) word.push(c);
    else if (word.length > 0) {
      words.push(String.fromCharCodes(word));
      word.length = 0;
    }
  }
  if (word.length > 0) words.push(String.fromCharCodes(word));
  return words;
}

function isUpper(c: i32): bool {
  return c >= 0x41 && c <= 0x5a;
}

/** A small letter, a digit, or something that is not ASCII. */
function isInWord(c: i32): bool {
  return (c >= 0x61 && c <= 0x7a) || (c >= 0x30 && c <= 0x39) || c >= 0x80;
}

function mostFrequent(counts: Map<string, i32>): Json {
  const words = counts.keys();
  const all: Frequency[] = [];
  for (let i = 0; i < words.length; i++) all.push(new Frequency(words[i], counts.get(words[i])));
  all.sort((a: Frequency, b: Frequency): i32 => (a.count != b.count ? b.count - a.count : a.word < b.word ? -1 : 1));

  const listed = Json.array();
  for (let i = 0; i < min(MOST, all.length); i++) {
    listed.push(Json.object().set("word", Json.string(all[i].word)).set("count", Json.integer(all[i].count)));
  }
  return listed;
}
