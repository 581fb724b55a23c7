// Everything that the SDK has, once: what each action must do stands in cases.json.

import {
  Answer, debug, error, fail, hostCall, HostReply, info, Json, ok, on, onHealthCheck, onInitialize, publish, send, trace,
  warn,
} from "../../../../../plugins/sdk/assemblyscript/warren";
export { allocate, handle_request, health_check, initialize } from "../../../../../plugins/sdk/assemblyscript/warren";

let word = "";

onInitialize((config: Json): Answer => {
  const setting = config.get("settings").get("word");
  if (!setting.isString) return fail("there is no word in the settings");
  word = setting.text;
  return ok();
});

onHealthCheck((): bool => word != "ill");

on("echo", (data: Json): Answer => ok(data));

on("word", (_: Json): Answer => ok(Json.string(word)));

on("log", (data: Json): Answer => {
  trace(data.text);
  debug(data.text);
  info(data.text);
  warn(data.text);
  error(data.text);
  return ok();
});

on("call", (data: Json): Answer => answered(hostCall(data.get("name").text, data.get("args"))));

on("send", (data: Json): Answer => {
  const to = data.get("to"), topic = data.get("topic").text, payload = data.get("payload");
  return answered(to.isNull ? publish(topic, payload) : send(to.text, topic, payload));
});

on("on_message", (data: Json): Answer =>
  ok(Json.array([data.get("from"), data.get("to"), data.get("topic"), data.get("payload"), data.get("timestamp")])));

on("refuse", (data: Json): Answer => fail(data.text));

on("crash", (data: Json): Answer => {
  throw new Error(data.text);
});

function answered(reply: HostReply): Answer {
  const problem = reply.error;
  return problem === null ? ok(reply.value) : fail(`${problem} (${reply.code})`);
}
