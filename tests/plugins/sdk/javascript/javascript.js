// Everything that the SDK has, once: what each action must do stands in cases.json.

import { actions, hooks, hostCall, log, publish, send } from "../../../../plugins/sdk/javascript/warren/warren.js";

let word = "";

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
});
