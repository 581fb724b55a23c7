// JSON as a tree. The language has no exceptions to catch, so what cannot be read is null, and the caller says so. Text
// is gathered in parts and joined once: with a runtime that never frees, `+=` in a loop would keep every step.

/** Deeper nesting is refused: reading recurses, and a guest's stack is small. */
const MAX_DEPTH = 64;

export enum Kind {
  Null,
  Boolean,
  Number,
  String,
  Array,
  Object,
}

const NO_MEMBERS = new Map<string, Value>();

export class Value {
  number: f64 = 0;
  items: Value[] = [];
  members: Map<string, Value> = NO_MEMBERS;

  constructor(public kind: Kind, public text: string = "") {}

  /** The member of that name and kind, if this is an object that has one. */
  member(name: string, kind: Kind): Value | null {
    if (!this.members.has(name)) return null;
    const value = this.members.get(name);
    return value.kind == kind ? value : null;
  }
}

/** The one value that `text` holds, or null where it is not JSON. */
export function parse(text: string): Value | null {
  const reader = new Reader(text);
  const value = reader.value(MAX_DEPTH);
  reader.skipSpace();
  return reader.atEnd ? value : null;
}

/** A string as JSON writes it, with its quotes. */
export function quote(text: string): string {
  const parts: string[] = ['"'];
  let from = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c >= 0x20 && c != 0x22 && c != 0x5c) continue;
    parts.push(text.substring(from, i));
    parts.push(c < 0x20 ? "\\u" + c.toString(16).padStart(4, "0") : "\\" + text.charAt(i));
    from = i + 1;
  }
  parts.push(text.substring(from) + '"');
  return parts.join("");
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

  value(depth: i32): Value | null {
    this.skipSpace();
    if (depth == 0) return null;
    if (this.accept("{")) return this.object(depth - 1);
    if (this.accept("[")) return this.array(depth - 1);
    if (this.accept('"')) return this.string();
    if (this.accept("null")) return new Value(Kind.Null);
    if (this.accept("true") || this.accept("false")) return new Value(Kind.Boolean);
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

  private object(depth: i32): Value | null {
    const object = new Value(Kind.Object);
    object.members = new Map<string, Value>();
    this.skipSpace();
    if (this.accept("}")) return object;
    do {
      this.skipSpace();
      if (!this.accept('"')) return null;
      const key = this.string();
      this.skipSpace();
      if (key === null || !this.accept(":")) return null;
      const value = this.value(depth);
      if (value === null) return null;
      object.members.set(key.text, value);
      this.skipSpace();
    } while (this.accept(","));
    return this.accept("}") ? object : null;
  }

  private array(depth: i32): Value | null {
    const array = new Value(Kind.Array);
    this.skipSpace();
    if (this.accept("]")) return array;
    do {
      const value = this.value(depth);
      if (value === null) return null;
      array.items.push(value);
      this.skipSpace();
    } while (this.accept(","));
    return this.accept("]") ? array : null;
  }

  /** The rest of a string whose opening quote is read. */
  private string(): Value | null {
    const parts: string[] = [];
    let from = this.at;
    for (let c = this.peek(); c >= 0x20; c = this.peek()) {
      this.at++;
      if (c != 0x22 && c != 0x5c) continue;
      parts.push(this.text.substring(from, this.at - 1));
      if (c == 0x22) return new Value(Kind.String, parts.length == 1 ? parts[0] : parts.join(""));
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
      const c = this.peek() | 0x20;
      if (c >= 0x30 && c <= 0x39) unit = (unit << 4) | (c - 0x30);
      else if (c >= 0x61 && c <= 0x66) unit = (unit << 4) | (c - 0x57);
      else return -1;
    }
    return unit;
  }

  private number(): Value | null {
    const start = this.at;
    this.accept("-");
    if (!this.accept("0") && !this.digits()) return null;
    if (this.accept(".") && !this.digits()) return null;
    if (this.accept("e") || this.accept("E")) {
      if (!this.accept("+")) this.accept("-");
      if (!this.digits()) return null;
    }
    const number = new Value(Kind.Number);
    number.number = parseFloat(this.text.substring(start, this.at));
    return number;
  }

  private digits(): bool {
    const start = this.at;
    for (let c = this.peek(); c >= 0x30 && c <= 0x39; c = this.peek()) this.at++;
    return this.at > start;
  }
}
