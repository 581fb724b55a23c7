// Warren plugins in JavaScript: functions by action, values in and out.
//
//   import { actions, log } from "./warren/warren.js";
//
//   function greet({ name }) {
//     if (!name) throw new Error("there is nobody to greet");
//     log.info(`greeting ${name}`);
//     return { greeting: `Hello, ${name}!` };
//   }
//
//   export const handler = actions({ greet });
//
// What is thrown is the request's error: {"success": false, "error": "there is nobody to greet"}. Where it is one that
// the language throws by itself (TypeError and its like), it is a bug, and its stack goes to the log as well.
//
// What stands outside of all functions is run once, when the plugin is built. Every request begins with what that left,
// in an instance of its own: what a request keeps in a variable is gone with it.

import { leaveBuild } from "./globals.js";
import { log } from "./host.js";

export { hostCall, HostError, log, publish, send } from "./host.js";

/**
 * What the action `on_message` is given: an event of a topic that the manifest subscribes to, where `to` is null, or what
 * another plugin sent to this one.
 * @typedef {{ from: string, to: string | null, topic: string, payload: any, timestamp: string }} Message
 */

/**
 * What `initialize` is given: [settings] of the manifest, the names of what was granted, and the environment.
 * @typedef {{ settings: any, resources: any, capabilities: string[], environment: Record<string, string> }} Config
 */

/**
 * The functions that answer, by their actions. Each takes the request's data and gives back the result, any JSON.
 * @param {{ on_message?: (message: Message) => unknown } & Record<string, (data: any) => unknown>} table
 */
export function actions(table) {
  return {
    /** @param {{ action: string, data: string }} request */
    handleRequest({ action, data }) {
      return attempt(() => {
        if (!Object.hasOwn(table, action)) throw new Error(`unknown action: ${action}`);
        return JSON.stringify(settled(action, table[action](JSON.parse(data)))) ?? "null";
      });
    },
  };
}

/**
 * For `export const lifecycle = hooks({ ... })` in a plugin of the world `plugin-with-lifecycle`: see toolchain.toml.
 * `initialize` is called before each request, `healthCheck` when the plugin is loaded; what throws fails.
 * @param {{ initialize?: (config: Config) => void, healthCheck?: () => void, shutdown?: () => void }} hooks
 */
export function hooks({ initialize, healthCheck, shutdown }) {
  return {
    /** @param {string} config */
    initialize: (config) => attempt(() => settled("initialize", initialize?.(JSON.parse(config)))),
    healthCheck: () => attempt(() => settled("healthCheck", healthCheck?.())),
    shutdown: () => attempt(() => settled("shutdown", shutdown?.())),
  };
}

/**
 * What the function gives back. What it throws is thrown as words, which is how a WIT `result` gets its error.
 * @template T
 * @param {() => T} run
 */
function attempt(run) {
  leaveBuild();
  try {
    return run();
  } catch (error) {
    if (BUGS.some((bug) => error instanceof bug)) log.error(error);
    throw (error instanceof Error ? error.message || error.name : String(error)).toWellFormed();
  }
}

const BUGS = [TypeError, ReferenceError, RangeError, SyntaxError, URIError, EvalError];

/**
 * Nothing could wait for a promise: the host's functions answer at once, and there are no timers.
 * @template T
 * @param {string} name
 * @param {T} value
 */
function settled(name, value) {
  if (value instanceof Promise) throw new TypeError(`${name} gave back a promise, and nothing here waits: drop its async`);
  return value;
}
