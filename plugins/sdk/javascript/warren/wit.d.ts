// What `plugin.wit` has a plugin import, for editors.

declare module "warren:plugin/host@1.0.0" {
  const host: {
    log(level: "debug" | "info" | "warn" | "error", message: string): void;
    /** Throws an error whose `payload` is the record `host-error`. */
    call(name: string, args: string): string;
  };
  export default host;
}
