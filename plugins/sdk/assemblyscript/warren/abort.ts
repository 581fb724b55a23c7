// What the compiler calls for a `throw`, by `--use abort=warren/abort/abort`: the last word goes to the log, and the
// run ends as a trap. Imports nothing: the compiler starts this file before the memory is managed.

// @ts-ignore: decorator
@external("warren_v1", "log")
declare function hostLog(level: i32, at: usize, len: i32): void;

const ERROR = 4;

/** Of what there is no room to tell, such as that the memory is full, nothing is told. */
let isAborting = false;

export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  if (isAborting) unreachable();
  isAborting = true;
  const text = `${message === null ? "aborted" : message} (${file === null ? "?" : file}:${line}:${column})`;
  const bytes = String.UTF8.encode(text, false, String.UTF8.ErrorMode.REPLACE);
  hostLog(ERROR, changetype<usize>(bytes), bytes.byteLength);
  unreachable();
}
