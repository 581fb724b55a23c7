// {{name}}: greets, and counts words. Every request runs in an instance of its own.

import { Answer, fail, info, Json, ok, on, publish } from "./warren";
export { allocate, handle_request } from "./warren";

// {"name": "Ada"} is answered with {"greeting": "Hello, Ada!"}.
on("greet", greet);

function greet(data: Json): Answer {
  const name = data.get("name").text;
  if (name == "") return fail("there is nobody to greet");
  info(`greeting ${name}`);
  return ok(Json.object().set("greeting", Json.string(`Hello, ${name}!`)));
}

on("count", (data: Json): Answer => {
  const parts = data.get("text").text.replaceAll("\n", " ").replaceAll("\t", " ").split(" ");
  let words = 0;
  for (let i = 0; i < parts.length; i++) {
    if (parts[i] != "") words++;
  }
  return ok(Json.object().set("words", Json.integer(words)));
});

// An event of a topic in [bus] subscribe: whoever comes is greeted, for all to hear.
on("on_message", (message: Json): Answer => {
  const greeting = greet(message.get("payload"));
  if (greeting.error !== null) return greeting;
  const problem = publish("greetings", greeting.result).error;
  return problem === null ? ok() : fail(problem);
});
