// What the component is made of: the plugin, where it exports what its world has. Else the build fails with words, and
// not the first request without.

import * as exported from "../plugin.js";

/** @type {any} */
const plugin = exported;

export const { handler, lifecycle } = plugin;

if (!handler) throw new Error("plugin.js has no `export const handler = actions({ ... })`");

/** By name, what the world has exported: componentize-qjs keeps it there. Not all of its versions need do so. */
const world = /** @type {any} */ (globalThis).__cqjs?.asyncExports;

if (world && lifecycle && !("lifecycle" in world)) {
  throw new Error("`lifecycle` is of another world: in toolchain.toml, write plugin-with-lifecycle after --world");
}
if (world && !lifecycle && "lifecycle" in world) {
  throw new Error("the world plugin-with-lifecycle needs `export const lifecycle = hooks({ ... })`");
}
