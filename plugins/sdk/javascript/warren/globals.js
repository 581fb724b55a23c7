// What JavaScript takes for granted, by Warren's host: a console, and the time. Without this file `new Date()` would end
// the run, and random numbers would be those of the build: every request would have the same.

import { hostCall, log } from "./host.js";

/** Milliseconds since the epoch. */
const now = () => hostCall("get_time").unix_ms;

Date.now = now;
globalThis.Date = Date.prototype.constructor = new Proxy(Date, {
  apply: (date) => new date(now()).toString(),
  construct: (date, args, called) => Reflect.construct(date, args.length === 0 ? [now()] : args, called),
});
Object.assign(globalThis, {
  console: { ...log, log: log.info, trace: log.debug },
  performance: { timeOrigin: 0, now },
});

Math.random = () => {
  throw new Error("a plugin has no random numbers; what a request needs has to come with it");
};
