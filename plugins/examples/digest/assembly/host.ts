// The host as an AssemblyScript plugin sees it: two imports, and text that crosses as UTF-8.

import { Kind, parse, quote } from "./json";

// @ts-ignore: decorator
@external("warren_v1", "log")
declare function hostLog(level: i32, ptr: usize, len: i32): void;

// @ts-ignore: decorator
@external("warren_v1", "host_call")
declare function hostCall(namePtr: usize, nameLen: i32, argsPtr: usize, argsLen: i32): u64;

export enum Level {
  Trace,
  Debug,
  Info,
  Warn,
  Error,
}

/** UTF-8 always: a surrogate with no partner becomes U+FFFD. */
function encode(text: string): ArrayBuffer {
  return String.UTF8.encode(text, false, String.UTF8.ErrorMode.REPLACE);
}

/** The text's address and length as `ptr << 32 | len`. */
export function pack(text: string): u64 {
  const bytes = encode(text);
  return ((changetype<usize>(bytes) as u64) << 32) | (bytes.byteLength as u64);
}

export function log(level: Level, text: string): void {
  const bytes = encode(text);
  hostLog(level, changetype<usize>(bytes), bytes.byteLength);
}

/** Publish an event. `payload` is JSON; what comes back is the reason where the host refuses, or null. */
export function publish(topic: string, payload: string): string | null {
  const name = encode("send_message");
  const args = encode(`{"to":null,"topic":${quote(topic)},"payload":${payload}}`);
  const packed = hostCall(changetype<usize>(name), name.byteLength, changetype<usize>(args), args.byteLength);
  const reply = parse(String.UTF8.decodeUnsafe((packed >> 32) as usize, (packed & 0xffffffff) as usize));
  if (reply === null) return "the host's answer cannot be read";
  const problem = reply.member("error", Kind.Object);
  if (problem === null) return null;
  const message = problem.member("message", Kind.String);
  return message === null ? "no reason is given" : message.text;
}

/** What the compiler calls where the language has no answer left; the last word goes to the log. */
export function fail(message: string | null, file: string | null, line: u32, column: u32): void {
  log(Level.Error, `${message === null ? "aborted" : message} (${file === null ? "?" : file}:${line}:${column})`);
  unreachable();
}
