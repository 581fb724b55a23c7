// For editors: what the world has a plugin import, and what is there besides the language itself.

declare module "warren:plugin/host@1.0.0" {
  const host: {
    log(level: "debug" | "info" | "warn" | "error", message: string): void;
    /** Throws an error whose `payload` is the record `host-error`. */
    call(name: string, args: string): string;
  };
  export default host;
}

declare module "wasi:random/random@0.2.0" {
  const random: { getRandomBytes(length: number): Uint8Array };
  export default random;
}

declare const console: Record<"trace" | "debug" | "log" | "info" | "warn" | "error", (...parts: unknown[]) => void>;

declare const crypto: {
  getRandomValues<T extends ArrayBufferView>(array: T): T;
  randomUUID(): string;
};

declare const performance: { now(): number };
