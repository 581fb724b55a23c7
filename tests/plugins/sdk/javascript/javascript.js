// Everything that the SDK has, once: what each action must do stands in cases.json, and that of this language alone
// is at its end.

import { actions, hooks, hostCall, HostError, log, publish, send } from "../../../../plugins/sdk/javascript/warren/warren.js";

let word = "";

const atBuild = [Date.now(), new Date().getTime(), Math.random()];

export const lifecycle = hooks({
  initialize({ settings }) {
    if (typeof settings.word !== "string") throw new Error("there is no word in the settings");
    word = settings.word;
  },
  healthCheck() {
    if (word === "ill") throw new Error("the word is ill");
  },
});

export const handler = actions({
  echo: (data) => data,
  word: () => word,
  log(text) {
    log.debug(text);
    log.info(text);
    log.warn(text);
    log.error(text);
  },
  call: ({ name, args }) => hostCall(name, args),
  send({ to, topic, payload }) {
    if (to === undefined) publish(topic, payload);
    else send(to, topic, payload);
  },
  on_message: ({ from, to, topic, payload, timestamp }) => [from, to, topic, payload, timestamp],
  refuse(words) {
    throw new Error(words);
  },
  crash(words) {
    throw new TypeError(words);
  },
  times() {
    const { unix_ms } = hostCall("get_time");
    return [Date.now(), new Date().getTime()].map((time) => time >= unix_ms && time < unix_ms + 60_000);
  },
  at_build: () => atBuild.map((number) => typeof number),
  draw: () => [Math.random(), crypto.randomUUID()],
  chance() {
    const drawn = Array.from({ length: 100 }, () => Math.random());
    const bytes = crypto.getRandomValues(new Uint8Array(64));
    return {
      numbers: drawn.every((number) => number >= 0 && number < 1) && new Set(drawn).size,
      bytes: [bytes.length, new Set(bytes).size > 32],
      uuid: crypto.randomUUID().replace(/[0-9a-f]/g, "x"),
      version: /^.{14}4.{4}[89ab]/.test(crypto.randomUUID()),
    };
  },
  promise: async () => 1,
  big: () => 1n,
  console(part) {
    console.log(part, 1, { a: [null] }, undefined);
    console.warn("\ud800");
  },
  words() {
    throw "\ud800 words";
  },
  code() {
    try {
      hostCall("nope");
    } catch (error) {
      return [error instanceof HostError, error.name, error.code, error.message];
    }
  },
});
