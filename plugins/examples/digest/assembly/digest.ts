// digest: a text's statistics in one line for somebody who decides whether to read it.
//
// On every `text.stats` it publishes `text.digest`; `summarise` answers the same for statistics sent to it. An instance
// serves one request and is gone, so the runtime is the one that never frees (`--runtime stub`).

import { Level, log, pack, publish } from "./host";
import { Kind, parse, quote, Value } from "./json";

/** What an adult reads in a minute, silently and in English (Brysbaert, 2019). */
const WORDS_PER_MINUTE = 238;

/** How many keywords a reader takes in at a glance. */
const SUBJECTS = 3;

export function allocate(len: i32): usize {
  return heap.alloc(len);
}

/** The answer's address and length as `ptr << 32 | len`. */
export function handle_request(ptr: usize, len: usize): u64 {
  const request = parse(String.UTF8.decodeUnsafe(ptr, len));
  if (request === null) return failed("The request is not JSON");
  const action = request.member("action", Kind.String);
  if (action === null) return failed("The request names no action");
  const data = request.member("data", Kind.Object);

  if (action.text == "summarise") return summarise(data, false);
  if (action.text == "on_message") return summarise(data === null ? null : data.member("payload", Kind.Object), true);
  return failed(`Unknown action: ${action.text}`);
}

function summarise(stats: Value | null, isMessage: bool): u64 {
  if (stats === null) return failed("There are no statistics in the data");
  const words = count(stats, "words");
  const sentences = count(stats, "sentences");
  if (words < 0 || sentences < 0) return failed("The statistics lack a count of words or of sentences");

  const document = stats.member("document", Kind.String);
  const digest = line(document, words, sentences, subjects(stats));
  const result = `{"document":${document === null ? "null" : quote(document.text)},"digest":${quote(digest)}}`;
  log(Level.Info, digest);
  if (isMessage) {
    const reason = publish("text.digest", result);
    if (reason !== null) return failed(`The digest could not be published: ${reason}`);
  }
  return pack(`{"success":true,"result":${result},"error":null}`);
}

function failed(error: string): u64 {
  return pack(`{"success":false,"result":null,"error":${quote(error)}}`);
}

/** A count among the statistics, or -1 where there is none that can be one. */
function count(stats: Value, name: string): i64 {
  const value = stats.member(name, Kind.Number);
  return value === null || !(value.number >= 0 && value.number <= f64.MAX_SAFE_INTEGER) ? -1 : (value.number as i64);
}

function subjects(stats: Value): string[] {
  const words: string[] = [];
  const keywords = stats.member("keywords", Kind.Array);
  if (keywords === null) return words;
  for (let i = 0; i < keywords.items.length && words.length < SUBJECTS; i++) {
    const word = keywords.items[i].member("word", Kind.String);
    if (word !== null) words.push(oneLine(word.text));
  }
  return words;
}

function line(document: Value | null, words: i64, sentences: i64, subjects: string[]): string {
  const name = document === null ? "Text" : oneLine(document.text);
  if (words == 0) return `${name}: no words`;
  const about = subjects.length > 0 ? ` about ${subjects.join(", ")}` : "";
  const minutes = max<i64>(1, (words + WORDS_PER_MINUTE / 2) / WORDS_PER_MINUTE);
  const size = `${counted(words, "word")} in ${counted(sentences, "sentence")}`;
  return `${name}: ${size}${about} (≈${grouped(minutes)} min read)`;
}

function counted(number: i64, noun: string): string {
  return `${grouped(number)} ${noun}${number == 1 ? "" : "s"}`;
}

/** 1204 as 1,204. */
function grouped(number: i64): string {
  const digits = number.toString();
  let out = "";
  for (let i = 0; i < digits.length; i++) {
    if (i > 0 && (digits.length - i) % 3 == 0) out += ",";
    out += digits.charAt(i);
  }
  return out;
}

/** Control characters as spaces: a name may hold anything. */
function oneLine(text: string): string {
  const parts: string[] = [];
  let from = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c >= 0x20 && c != 0x7f && c != 0x85 && c != 0x2028 && c != 0x2029) continue;
    parts.push(text.substring(from, i));
    from = i + 1;
  }
  parts.push(text.substring(from));
  return parts.join(" ");
}
