// What a plugin asks the host for: a line in the log, and any host function by its name. Text crosses as UTF-8.

import { Json } from "./json";

// @ts-ignore: decorator
@external("warren_v1", "log")
declare function hostLog(level: i32, at: usize, len: i32): void;

// @ts-ignore: decorator
@external("warren_v1", "host_call")
declare function hostCallPacked(nameAt: usize, nameLen: i32, argsAt: usize, argsLen: i32): u64;

export function trace(text: string): void {
  log(0, text);
}

export function debug(text: string): void {
  log(1, text);
}

export function info(text: string): void {
  log(2, text);
}

export function warn(text: string): void {
  log(3, text);
}

export function error(text: string): void {
  log(4, text);
}

function log(level: i32, text: string): void {
  const bytes = encode(text);
  hostLog(level, changetype<usize>(bytes), bytes.byteLength);
}

/** What the host answers: a value, or the error why there is none, with a code for programs. */
export class HostReply {
  constructor(readonly value: Json, readonly error: string | null = null, readonly code: string = "") {}
}

/** Call a host function: `hostCall("storage_get", Json.object().set("key", Json.string("users/1")))`. */
export function hostCall(name: string, args: Json): HostReply {
  const nameBytes = encode(name), argsBytes = encode(args.toString());
  const packed = hostCallPacked(
    changetype<usize>(nameBytes), nameBytes.byteLength, changetype<usize>(argsBytes), argsBytes.byteLength,
  );
  const reply = Json.parse(taken((packed >> 32) as usize, packed as i32));
  if (reply === null) return new HostReply(Json.NULL, "the host's answer cannot be read", "unexpected_answer");
  const problem = reply.get("error");
  if (!problem.isObject) return new HostReply(reply.get("ok"));
  return new HostReply(Json.NULL, problem.get("message").text, problem.get("code").text);
}

/** Publish an event for whoever subscribes to the topic; it is sent once this run has ended well. */
export function publish(topic: string, payload: Json): HostReply {
  return sendMessage(Json.NULL, topic, payload);
}

/** Send a message to one plugin, which gets it as the action `on_message`, once this run has ended well. */
export function send(to: string, topic: string, payload: Json): HostReply {
  return sendMessage(Json.string(to), topic, payload);
}

function sendMessage(to: Json, topic: string, payload: Json): HostReply {
  return hostCall("send_message", Json.object().set("to", to).set("topic", Json.string(topic)).set("payload", payload));
}

/** UTF-8 always: a surrogate with no partner becomes U+FFFD. */
function encode(text: string): ArrayBuffer {
  return String.UTF8.encode(text, false, String.UTF8.ErrorMode.REPLACE);
}

/** The text that the host wrote where `allocate` told it to. */
export function taken(at: usize, len: i32): string {
  const text = String.UTF8.decodeUnsafe(at, len);
  heap.free(at);
  return text;
}

/** What was handed over last: held here, so that no collector takes it before the host has read it. */
let handedOver = new ArrayBuffer(0);

/** The text's address and length as `ptr << 32 | len`. */
export function handOver(text: string): u64 {
  handedOver = encode(text);
  return ((changetype<usize>(handedOver) as u64) << 32) | (handedOver.byteLength as u64);
}
