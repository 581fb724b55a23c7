// What a function of a plugin gives back.

import { Json } from "./json";

/** A result, or the error why there is none; `ok` and `fail` make it. */
export class Answer {
  constructor(readonly result: Json, readonly error: string | null) {}
}

export function ok(result: Json = Json.NULL): Answer {
  return new Answer(result, null);
}

export function fail(error: string): Answer {
  return new Answer(Json.NULL, error);
}
