// Warren plugins in AssemblyScript: functions by action, JSON in and out, and no pointer.
//
//   import { Answer, fail, info, Json, ok, on } from "./warren";
//   export { allocate, handle_request } from "./warren";
//
//   on("greet", (data: Json): Answer => {
//     const name = data.get("name").text;
//     if (name == "") return fail("there is nobody to greet");
//     info(`greeting ${name}`);
//     return ok(Json.string(`Hello, ${name}!`));
//   });
//
// The language has no exceptions to catch: what can go wrong is returned with `fail`, and the request is answered with
// `{"success": false, "error": "there is nobody to greet"}`. A `throw` is a bug: its text goes to the log, and the run
// ends as a trap.
//
// Every request runs in an instance of its own: what is kept in a variable is gone with it.

export { Answer, fail, ok } from "./answer";
export { debug, error, HostReply, hostCall, info, publish, send, trace, warn } from "./host";
export { Json, Kind } from "./json";
export { allocate, handle_request, health_check, initialize, on, onHealthCheck, onInitialize } from "./plugin";
