// What JavaScript takes for granted and QuickJS has not: a console, and random numbers. QuickJS draws its seed when the
// plugin is built, so that every request would have the same ones.
//
// While the plugin is built there is no host, and `Math.random` is QuickJS's own: packages draw when they are imported.

import random from "wasi:random/random@0.2.0";

import { log } from "./host.js";

let isBuilt = false;

/** The plugin is built, and has a host from now on. */
export function leaveBuild() {
  isBuilt = true;
}

const randomAtBuild = Math.random;

Math.random = () => {
  if (!isBuilt) return randomAtBuild();
  const [high, low] = getRandomValues(new Uint32Array(2));
  return (high * 2 ** 21 + (low >>> 11)) / 2 ** 53; // as many bits as a number has
};

Object.assign(globalThis, {
  console: { ...log, log: log.info, trace: log.debug },
  crypto: { getRandomValues, randomUUID },
});

/**
 * Fill an array of integers.
 * @template {ArrayBufferView} T
 * @param {T} array
 */
function getRandomValues(array) {
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  bytes.set(random.getRandomBytes(bytes.length));
  return array;
}

/** RFC 9562, version 4. */
function randomUUID() {
  const bytes = getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
