// {{name}}: greets, and counts words. Every request runs in an instance of its own.

import { actions, log, publish } from "./warren/warren.js";

// {"name": "Ada"} is answered with {"greeting": "Hello, Ada!"}.
function greet({ name }) {
  if (!name) throw new Error("there is nobody to greet");
  log.info(`greeting ${name}`);
  return { greeting: `Hello, ${name}!` };
}

function count({ text }) {
  return { words: text.split(/\s+/).filter(Boolean).length };
}

// An event of a topic in [bus] subscribe: whoever comes is greeted, for all to hear.
function on_message({ payload }) {
  publish("greetings", greet(payload ?? {}));
}

export const handler = actions({ greet, count, on_message });
