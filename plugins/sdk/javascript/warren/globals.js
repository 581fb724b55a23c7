// What JavaScript takes for granted, by Warren's host: a console, and the time. Without this file `new Date()` would end
// the run, and random numbers would be those of the build: every request would have the same.
//
// While the plugin is built there is no host, and the time and random numbers are the machine's: packages take some when
// they are imported.
//
// Rejected: to have the host provide WASI. QuickJS imports a hundred functions of it, and needs two.

import { hostCall, log } from "./host.js";

let isBuilt = false;

/** The plugin is built, and has a host from now on. */
export function leaveBuild() {
  isBuilt = true;
}

const { now: nowAtBuild } = Date;
const { random: randomAtBuild } = Math;

/** Milliseconds since the epoch. */
const now = () => (isBuilt ? hostCall("get_time").unix_ms : nowAtBuild());

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
  if (isBuilt) throw new Error("a plugin has no random numbers; what a request needs has to come with it");
  return randomAtBuild();
};
