// What the host calls: the ABI `core`. A plugin's entry exports `allocate` and `handle_request` again, and `initialize`
// and `health_check` where it has functions for them.

import "./abort";
import { Answer, fail } from "./answer";
import { error, handOver, taken } from "./host";
import { Json } from "./json";

const actions = new Map<string, (data: Json) => Answer>();

/** Have a function answer an action. `on_message` is given what the plugin hears: from, to, topic, payload, timestamp. */
export function on(action: string, answer: (data: Json) => Answer): void {
  actions.set(action, answer);
}

let configure: (config: Json) => Answer = (_: Json): Answer => fail("no function takes the configuration");
let isHealthy: () => bool = (): bool => true;

/** Have a function take the configuration (`settings`, `capabilities`, ...); where it fails, so does the load. */
export function onInitialize(take: (config: Json) => Answer): void {
  configure = take;
}

/** Have a function say whether the plugin is healthy. */
export function onHealthCheck(check: () => bool): void {
  isHealthy = check;
}

export function allocate(len: i32): usize {
  return heap.alloc(len);
}

export function handle_request(at: usize, len: i32): u64 {
  const answer = answerTo(Json.parse(taken(at, len)));
  const problem = answer.error;
  const body = Json.object()
    .set("success", Json.boolean(problem === null))
    .set("result", answer.result)
    .set("error", problem === null ? Json.NULL : Json.string(problem));
  return handOver(body.toString());
}

function answerTo(request: Json | null): Answer {
  if (request === null) return fail("the request is not JSON");
  const action = request.get("action");
  if (!action.isString) return fail("the request names no action");
  if (!actions.has(action.text)) return fail(`unknown action: ${action.text}`);
  return actions.get(action.text)(request.get("data"));
}

/** 0 where the plugin took its configuration. */
export function initialize(at: usize, len: i32): i32 {
  const config = Json.parse(taken(at, len));
  const problem = config === null ? "the configuration is not JSON" : configure(config).error;
  if (problem === null) return 0;
  error(problem);
  return 1;
}

export function health_check(): i32 {
  return isHealthy() ? 1 : 0;
}
