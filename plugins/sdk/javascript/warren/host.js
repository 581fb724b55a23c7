// What a plugin asks the host for: a line in the log, and any host function by its name.

import host from "warren:plugin/host@1.0.0";

/** Lines in the log of this run: strings as they are, errors with their stack, all else as JSON. */
export const log = {
  /** @param {unknown[]} parts */
  debug: (...parts) => host.log("debug", line(parts)),
  /** @param {unknown[]} parts */
  info: (...parts) => host.log("info", line(parts)),
  /** @param {unknown[]} parts */
  warn: (...parts) => host.log("warn", line(parts)),
  /** @param {unknown[]} parts */
  error: (...parts) => host.log("error", line(parts)),
};

/** Why the host did not do what it was asked for; `code` is for programs, such as "invalid_arguments". */
export class HostError extends Error {
  name = "HostError";

  /**
   * @param {string} code
   * @param {string} message
   */
  constructor(code, message) {
    super(`${message} (${code})`);
    this.code = code;
  }
}

/**
 * Call a host function: `hostCall("storage_get", { key: "users/1" })`. Throws HostError.
 * @param {string} name
 * @param {unknown} [args]
 * @returns {any}
 */
export function hostCall(name, args = null) {
  const written = JSON.stringify(args) ?? "null"; // JSON has no word for a function
  let answer;
  try {
    answer = host.call(name.toWellFormed(), written);
  } catch (/** @type {any} */ error) {
    throw new HostError(error.payload.code, error.payload.message);
  }
  return JSON.parse(answer);
}

/**
 * Publish an event for whoever subscribes to the topic. It is sent once this run has ended well.
 * @param {string} topic
 * @param {unknown} payload
 */
export function publish(topic, payload) {
  hostCall("send_message", { to: null, topic, payload });
}

/**
 * Send a message to one plugin, which gets it as the action `on_message`, once this run has ended well.
 * @param {string} to
 * @param {string} topic
 * @param {unknown} payload
 */
export function send(to, topic, payload) {
  hostCall("send_message", { to, topic, payload });
}

/** @param {unknown[]} parts */
function line(parts) {
  return parts.map(shown).join(" ").toWellFormed(); // a surrogate with no partner would end the run
}

/** @param {unknown} part */
function shown(part) {
  if (part instanceof Error) return `${part}\n${part.stack}`.trimEnd();
  return typeof part === "object" ? JSON.stringify(part) : String(part);
}
