// JSON as a tree. What is not JSON is null and what is not there is `Json.NULL`: the language has no exceptions to catch.

/** Deeper nesting is refused: reading recurses, and a guest's stack is small. */
const MAX_DEPTH = 128;

export enum Kind {
  Null,
  Boolean,
  Number,
  String,
  Array,
  Object,
}

export class Json {
  /** Also what `get` gives where there is nothing. */
  static readonly NULL: Json = new Json(Kind.Null);

  private elements: Json[] | null = null;
  private members: Map<string, Json> | null = null;

  /** `text` is a string's characters, and a number as JSON has it; of anything else it is empty. */
  private constructor(readonly kind: Kind, readonly text: string = "") {}

  /** The one value that `text` holds, or null where it is not JSON. */
  static parse(text: string): Json | null {
    const reader = new Reader(text);
    const value = reader.value(MAX_DEPTH);
    reader.skipSpace();
    return reader.atEnd ? value : null;
  }

  static string(text: string): Json {
    return new Json(Kind.String, text);
  }

  /** What is no number (NaN, infinity) is null, as JavaScript has it. */
  static number(number: f64): Json {
    if (!isFinite(number)) return Json.NULL;
    const isInteger = trunc(number) == number && abs(number) <= f64.MAX_SAFE_INTEGER;
    return isInteger ? Json.integer(number as i64) : new Json(Kind.Number, number.toString());
  }

  static integer(number: i64): Json {
    return new Json(Kind.Number, number.toString());
  }

  static boolean(value: bool): Json {
    return new Json(Kind.Boolean, value ? "true" : "false");
  }

  static array(items: Json[] = []): Json {
    const array = new Json(Kind.Array);
    array.elements = items;
    return array;
  }

  static object(): Json {
    const object = new Json(Kind.Object);
    object.members = new Map<string, Json>();
    return object;
  }

  /** A number as it was read. Only for who has checked that it is one. */
  static literal(number: string): Json {
    return new Json(Kind.Number, number);
  }

  get isNull(): bool {
    return this.kind == Kind.Null;
  }

  get isBoolean(): bool {
    return this.kind == Kind.Boolean;
  }

  get isNumber(): bool {
    return this.kind == Kind.Number;
  }

  get isString(): bool {
    return this.kind == Kind.String;
  }

  get isArray(): bool {
    return this.kind == Kind.Array;
  }

  get isObject(): bool {
    return this.kind == Kind.Object;
  }

  /** Whether this is `true`. */
  get isTrue(): bool {
    return this.kind == Kind.Boolean && this.text == "true";
  }

  /** The number that this is, else NaN. */
  get number(): f64 {
    return this.kind == Kind.Number ? parseFloat(this.text) : NaN;
  }

  /** The number that this is, without what is behind its point, else 0. */
  get integer(): i64 {
    if (this.kind != Kind.Number) return 0;
    const isPlain = !this.text.includes(".") && !this.text.includes("e") && !this.text.includes("E");
    return isPlain ? I64.parseInt(this.text) : (this.number as i64);
  }

  /** The elements of an array; none of anything else. */
  get items(): Json[] {
    const elements = this.elements;
    return elements === null ? [] : elements;
  }

  /** Add an element to this array, and give the array back. */
  push(value: Json): Json {
    const elements = this.elements;
    assert(elements !== null, "only an array has elements");
    elements!.push(value);
    return this;
  }

  /** The member of that name, else `Json.NULL`. */
  get(name: string): Json {
    const members = this.members;
    return members !== null && members.has(name) ? members.get(name) : Json.NULL;
  }

  /** The names of an object's members, in the order in which they were set. */
  names(): string[] {
    const members = this.members;
    return members === null ? [] : members.keys();
  }

  /** Set a member of this object, and give the object back. */
  set(name: string, value: Json): Json {
    const members = this.members;
    assert(members !== null, "only an object has members");
    members!.set(name, value);
    return this;
  }

  /** As JSON. Gathered in parts and joined once: `+=` in a loop would copy all that is there each time. */
  toString(): string {
    const parts: string[] = [];
    this.write(parts);
    return parts.join("");
  }

  private write(parts: string[]): void {
    switch (this.kind) {
      case Kind.Null: parts.push("null"); break;
      case Kind.String: quote(this.text, parts); break;
      case Kind.Array: this.writeArray(parts); break;
      case Kind.Object: this.writeObject(parts); break;
      default: parts.push(this.text);
    }
  }

  private writeArray(parts: string[]): void {
    parts.push("[");
    const items = this.items;
    for (let i = 0; i < items.length; i++) {
      if (i > 0) parts.push(",");
      items[i].write(parts);
    }
    parts.push("]");
  }

  private writeObject(parts: string[]): void {
    const names = this.names();
    parts.push("{");
    for (let i = 0; i < names.length; i++) {
      if (i > 0) parts.push(",");
      quote(names[i], parts);
      parts.push(":");
      this.get(names[i]).write(parts);
    }
    parts.push("}");
  }
}

/** A string as JSON writes it, with its quotes. */
function quote(text: string, parts: string[]): void {
  parts.push('"');
  let from = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c >= 0x20 && c != 0x22 && c != 0x5c) continue;
    parts.push(text.substring(from, i));
    parts.push(c < 0x20 ? "\\u" + c.toString(16).padStart(4, "0") : "\\" + text.charAt(i));
    from = i + 1;
  }
  parts.push(text.substring(from) + '"');
}

class Reader {
  private at: i32 = 0;

  constructor(private text: string) {}

  get atEnd(): bool {
    return this.at == this.text.length;
  }

  skipSpace(): void {
    for (let c = this.peek(); c == 0x20 || c == 0x09 || c == 0x0a || c == 0x0d; c = this.peek()) this.at++;
  }

  value(depth: i32): Json | null {
    this.skipSpace();
    if (depth == 0) return null;
    if (this.accept("{")) return this.object(depth - 1);
    if (this.accept("[")) return this.array(depth - 1);
    if (this.accept('"')) {
      const text = this.string();
      return text === null ? null : Json.string(text);
    }
    if (this.accept("null")) return Json.NULL;
    if (this.accept("true")) return Json.boolean(true);
    if (this.accept("false")) return Json.boolean(false);
    return this.number();
  }

  /** The next UTF-16 unit, or -1 at the end. */
  private peek(): i32 {
    return this.at < this.text.length ? this.text.charCodeAt(this.at) : -1;
  }

  private accept(token: string): bool {
    for (let i = 0; i < token.length; i++) {
      if (this.at + i >= this.text.length || this.text.charCodeAt(this.at + i) != token.charCodeAt(i)) return false;
    }
    this.at += token.length;
    return true;
  }

  private object(depth: i32): Json | null {
    const object = Json.object();
    this.skipSpace();
    if (this.accept("}")) return object;
    do {
      this.skipSpace();
      if (!this.accept('"')) return null;
      const name = this.string();
      this.skipSpace();
      if (name === null || !this.accept(":")) return null;
      const value = this.value(depth);
      if (value === null) return null;
      object.set(name, value);
      this.skipSpace();
    } while (this.accept(","));
    return this.accept("}") ? object : null;
  }

  private array(depth: i32): Json | null {
    const array = Json.array();
    this.skipSpace();
    if (this.accept("]")) return array;
    do {
      const value = this.value(depth);
      if (value === null) return null;
      array.push(value);
      this.skipSpace();
    } while (this.accept(","));
    return this.accept("]") ? array : null;
  }

  /** The rest of a string whose opening quote is read. */
  private string(): string | null {
    const parts: string[] = [];
    let from = this.at;
    for (let c = this.peek(); c >= 0x20; c = this.peek()) {
      this.at++;
      if (c != 0x22 && c != 0x5c) continue;
      parts.push(this.text.substring(from, this.at - 1));
      if (c == 0x22) return parts.length == 1 ? parts[0] : parts.join("");
      const unit = this.escape();
      if (unit < 0) return null;
      parts.push(String.fromCharCode(unit));
      from = this.at;
    }
    return null;
  }

  /** What the escape behind a backslash stands for, or -1. A pair of surrogates is two escapes, and joins by itself. */
  private escape(): i32 {
    const c = this.peek();
    this.at++;
    switch (c) {
      case 0x22: case 0x2f: case 0x5c: return c; // " / \
      case 0x62: return 0x08; // b
      case 0x66: return 0x0c; // f
      case 0x6e: return 0x0a; // n
      case 0x72: return 0x0d; // r
      case 0x74: return 0x09; // t
      case 0x75: return this.hex4(); // u
      default: return -1;
    }
  }

  private hex4(): i32 {
    let unit = 0;
    for (let i = 0; i < 4; i++, this.at++) {
      const digit = this.peek(), letter = digit | 0x20;
      if (digit >= 0x30 && digit <= 0x39) unit = (unit << 4) | (digit - 0x30);
      else if (letter >= 0x61 && letter <= 0x66) unit = (unit << 4) | (letter - 0x57);
      else return -1;
    }
    return unit;
  }

  private number(): Json | null {
    const start = this.at;
    this.accept("-");
    if (!this.accept("0") && !this.digits()) return null;
    if (this.accept(".") && !this.digits()) return null;
    if (this.accept("e") || this.accept("E")) {
      if (!this.accept("+")) this.accept("-");
      if (!this.digits()) return null;
    }
    return Json.literal(this.text.substring(start, this.at));
  }

  private digits(): bool {
    const start = this.at;
    for (let c = this.peek(); c >= 0x30 && c <= 0x39; c = this.peek()) this.at++;
    return this.at > start;
  }
}
