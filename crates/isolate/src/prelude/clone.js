// structuredClone of an isolate.
// It is not a wire format, and it transfers nothing: there is no other thread that could receive it.

const ERRORS = ["EvalError", "RangeError", "ReferenceError", "SyntaxError", "TypeError", "URIError"];
/** What holds state that a copy could not have; classes of our own are known by the same tag, so that none must be loaded. */
const REFUSED =
  /^(?:Promise|Weak(?:Map|Set|Ref)|(?:Async)?Generator|FinalizationRegistry|Symbol|SharedArrayBuffer|Atomics|Module|Proxy|.+ Iterator|Headers|Request|Response|URL|URLSearchParams|TextEncoder|TextDecoder|Crypto|AbortSignal|AbortController)$/;

function refusal(what) {
  const message = `${what} could not be cloned.`;
  if (typeof globalThis.DOMException === "function") return new globalThis.DOMException(message, "DataCloneError");
  const error = new Error(message);
  error.name = "DataCloneError";
  return error;
}

function structuredClone(value, options) {
  if (arguments.length === 0) throw new TypeError("structuredClone takes a value");
  const transfer = options?.transfer;
  if (transfer != null && [...transfer].length > 0) throw refusal("A value to transfer");
  return copy(value, new Map());
}

/** `seen` leads from each object to its copy: what is shared stays shared, and a cycle ends. */
function copy(value, seen) {
  if (typeof value === "symbol") throw refusal(String(value));
  if (typeof value === "function") throw refusal("A function");
  if (typeof value !== "object" || value === null) return value;
  const known = seen.get(value);
  if (known !== undefined) return known;
  if (Array.isArray(value)) return copyProperties(value, remember(seen, value, new Array(value.length)), seen);
  const tag = Object.prototype.toString.call(value).slice(8, -1);
  if (REFUSED.test(tag)) throw refusal(`A ${tag}`);
  if (value instanceof Error) return copyError(value, seen);
  const leaf = copyLeaf(value, tag, seen);
  if (leaf !== null) return remember(seen, value, leaf);
  if (tag === "Map" && value instanceof Map) return copyMap(value, seen);
  if (tag === "Set" && value instanceof Set) return copySet(value, seen);
  return copyProperties(value, remember(seen, value, {}), seen);
}

function remember(seen, value, made) {
  seen.set(value, made);
  return made;
}

/** A copy of what holds no other values, except the buffer below a view; null for everything else. */
function copyLeaf(value, tag, seen) {
  if (ArrayBuffer.isView(value)) return copyView(value, tag, seen);
  if (value instanceof ArrayBuffer) {
    if (value.detached) throw refusal("A detached ArrayBuffer");
    return value.slice(0);
  }
  if (value instanceof Date) return new Date(value.getTime());
  if (value instanceof RegExp) return new RegExp(value.source, value.flags);
  if (value instanceof Boolean || value instanceof Number || value instanceof String || value instanceof BigInt) {
    return Object(value.valueOf());
  }
  return null;
}

function copyView(view, tag, seen) {
  const buffer = copy(view.buffer, seen);
  if (tag === "DataView") return new DataView(buffer, view.byteOffset, view.byteLength);
  return new globalThis[tag](buffer, view.byteOffset, view.length);
}

// Both walk over a list made before: copying may run getters, and those may change the collection.
function copyMap(map, seen) {
  const made = remember(seen, map, new Map());
  for (const [key, value] of [...Map.prototype.entries.call(map)]) made.set(copy(key, seen), copy(value, seen));
  return made;
}

function copySet(set, seen) {
  const made = remember(seen, set, new Set());
  for (const value of [...Set.prototype.values.call(set)]) made.add(copy(value, seen));
  return made;
}

function copyError(error, seen) {
  const message = Object.getOwnPropertyDescriptor(error, "message");
  const text = message && "value" in message ? [String(message.value)] : [];
  if (typeof globalThis.DOMException === "function" && error instanceof globalThis.DOMException) {
    return remember(seen, error, new globalThis.DOMException(error.message, error.name));
  }
  const name = String(error.name);
  const made = remember(seen, error, new (ERRORS.includes(name) ? globalThis[name] : Error)(...text));
  const show = (key, value) =>
    Object.defineProperty(made, key, { value, writable: true, configurable: true, enumerable: false });
  if (typeof error.stack === "string") show("stack", error.stack);
  if (Object.hasOwn(error, "cause")) show("cause", copy(error.cause, seen));
  return made;
}

function copyProperties(from, to, seen) {
  for (const key of Object.keys(from)) {
    // A getter that ran before may have deleted it.
    if (!Object.hasOwn(from, key)) continue;
    const value = copy(from[key], seen);
    // Plain assignment is faster, but this one name would set the prototype.
    if (key === "__proto__") {
      Object.defineProperty(to, key, { value, writable: true, configurable: true, enumerable: true });
    } else {
      to[key] = value;
    }
  }
  return to;
}

export function install() {
  return { structuredClone };
}
