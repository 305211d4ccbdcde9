// Shows values as text, for the console of an isolate; the look is that of Node's util.format.
// It is not util.inspect: there are no options, no colours and no hidden properties.
// It runs no getter and throws nothing, whatever it is shown: a log line must never break the function that writes it.

/** Levels below the shown value; deeper ones are named only. Node has the same. */
const DEPTH = 2;
/** Levels that %o shows. Node has the same. */
const DEPTH_OF_O = 4;
/** Entries of a collection that are shown. Node has the same. */
const ENTRIES_MAX = 100;
/** Characters of a string inside another value that are shown. Node has the same. */
const STRING_MAX = 10000;
/** Columns of a line, the room that Node reserves in front of it not yet taken off. */
const LINE = 80;
/** Prototypes looked at: a hostile proxy has an endless chain of them. */
const PROTOTYPES_MAX = 64;

/** Objects within objects, those counted that a class shows through a method of its own; such a method could go on for ever. */
const NESTING_MAX = 12;

const CUSTOM = Symbol.for("nodejs.util.inspect.custom");
const UNSHOWABLE = "<cannot be shown>";

function format(...args) {
  const first = args[0];
  if (typeof first !== "string") return args.map(plain).join(" ");
  if (args.length === 1) return first;
  let used = 1;
  const text = first.replace(/%[sdifjoOc%]/g, (mark) => {
    if (mark === "%%") return "%";
    return used < args.length ? directive(mark[1], args[used++]) : mark;
  });
  return [text, ...args.slice(used).map(plain)].join(" ");
}

function plain(value) {
  return typeof value === "string" ? value : inspect(value);
}

function directive(letter, value) {
  try {
    switch (letter) {
      case "s":
        return asString(value);
      case "d":
        if (typeof value === "bigint") return `${value}n`;
        return typeof value === "symbol" ? "NaN" : number(Number(value));
      case "i":
        if (typeof value === "bigint") return `${value}n`;
        return typeof value === "symbol" ? "NaN" : number(parseInt(value, 10));
      case "f":
        return typeof value === "symbol" ? "NaN" : number(parseFloat(value));
      case "j":
        return asJson(value);
      case "o":
        return inspect(value, DEPTH_OF_O);
      case "O":
        return inspect(value);
      default:
        return "";
    }
  } catch {
    return inspect(value);
  }
}

function asString(value) {
  if (typeof value === "string") return value;
  if (typeof value !== "object" || value === null) return typeof value === "function" ? ownText(value) : primitive(value);
  return ownText(value);
}

/** The object's own idea of a string, if its program gave it one; what is built in says less than an inspection. */
function ownText(value) {
  if (isEndless(value)) return UNSHOWABLE;
  if (value instanceof Error || value instanceof Date) return String(value);
  const toString = find(value, "toString")?.value;
  return toString === undefined || isNative(toString) ? inspect(value, 0) : String(value);
}

function asJson(value) {
  try {
    return String(JSON.stringify(value));
  } catch (error) {
    if (/circular/i.test(String(error?.message))) return "[Circular]";
    throw error;
  }
}

function inspect(value, depth = DEPTH) {
  // `path` holds the objects around the one being shown, `custom` of them by a method of their own, which are no level;
  // `circular` numbers those that hold themselves.
  const state = { depth, path: [], circular: new Map(), indent: 0, deepest: 0, custom: 0 };
  return show(state, value);
}

function show(state, value) {
  if (typeof value === "string") return quoted(value);
  if ((typeof value !== "object" && typeof value !== "function") || value === null) return primitive(value);
  const { indent, custom } = state;
  const { length } = state.path;
  if (length > NESTING_MAX) return UNSHOWABLE;
  try {
    return showObject(state, value);
  } catch {
    return UNSHOWABLE;
  } finally {
    // A throw somewhere below leaves these as they were there.
    state.indent = indent;
    state.custom = custom;
    state.path.length = length;
  }
}

function showObject(state, value) {
  if (state.path.includes(value)) {
    if (!state.circular.has(value)) state.circular.set(value, state.circular.size + 1);
    return `[Circular *${state.circular.get(value)}]`;
  }
  if (isEndless(value)) return UNSHOWABLE;
  const own = customText(state, value);
  if (own !== null) return own;
  const level = state.path.length - state.custom;
  const view = look(value);
  if (level > state.depth) {
    if (view.open === null) return layOut(state, view, [], level);
    if (view.size > 0 || properties(null, value, view).length > 0) return `[${view.name}]`;
  }
  const { deepest } = state;
  state.deepest = level;
  state.path.push(value);
  state.indent += 2;
  const entries = [...view.entries(state), ...properties(state, value, view)];
  state.indent -= 2;
  state.path.pop();
  // What is empty does not make those around it deep.
  if (entries.length === 0) state.deepest = deepest;
  let text = layOut(state, view, entries, level);
  if (state.circular.has(value)) text = `<ref *${state.circular.get(value)}> ${text}`;
  return text;
}

/** What the value's class says about itself, null if it says nothing or fails to. */
function customText(state, value) {
  const custom = find(value, CUSTOM)?.value;
  if (typeof custom !== "function") return null;
  const left = state.depth - state.path.length + state.custom;
  state.path.push(value);
  state.custom++;
  try {
    const inner = (other) => show(state, other);
    const said = custom.call(value, left, { depth: left }, inner);
    if (said === value) return null;
    return typeof said === "string" ? said.replaceAll("\n", `\n${" ".repeat(state.indent)}`) : show(state, said);
  } catch {
    return null;
  } finally {
    state.path.pop();
    state.custom--;
  }
}

const none = () => [];

/**
 * How a value looks before its properties are known.
 * `base` stands in front, `open` and `close` around the entries; `open` is null for what shows no braces while it is empty.
 * `hidden` are keys that the base or the entries already show, `size` says how many entries there are.
 */
function look(value) {
  const name = nameOf(value);
  if (Array.isArray(value)) {
    const prefix = name === "Array" ? "" : `${name ?? "[Array: null prototype]"}(${value.length}) `;
    return brackets(prefix, name ?? "Array", value, value.length, true);
  }
  if (typeof value === "function") return bare(functionText(value, name), ["prototype"]);
  if (value instanceof Error) return errorLook(value, name);
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
    return brackets(`${name}(${value.length}) `, name, value, value.length, false);
  }
  return leafLook(value, name) ?? collectionLook(value, name) ?? objectLook(value, name);
}

function bare(base, hidden = []) {
  return { name: base, base, open: null, close: "}", size: 0, entries: none, hidden, indexed: false, list: null };
}

function braces(prefix, name, size = 0, entries = none) {
  return { name, base: "", open: `${prefix}{`, close: "}", size, entries, hidden: [], indexed: false, list: null };
}

function brackets(prefix, name, list, length, holes) {
  const entries = (state) => elements(state, list, length, holes);
  return { name, base: "", open: `${prefix}[`, close: "]", size: length, entries, hidden: [], indexed: true, list };
}

/** Values that are one piece of text. */
function leafLook(value, name) {
  // `instanceof` is only a promise; the method of the type itself throws at an impostor, which is then a plain object.
  try {
    if (value instanceof Date) {
      const time = Date.prototype.getTime.call(value);
      return bare(Number.isNaN(time) ? "Invalid Date" : Date.prototype.toISOString.call(value));
    }
    if (value instanceof RegExp) return bare(RegExp.prototype.toString.call(value));
    for (const type of [Number, String, Boolean, BigInt, Symbol]) {
      if (!(value instanceof type)) continue;
      const inner = type.prototype.valueOf.call(value);
      const view = bare(`[${type.name}: ${show(null, inner)}]`);
      // The characters of a string are its properties too.
      view.indexed = type === String;
      return view;
    }
  } catch {
    return null;
  }
  return null;
}

function collectionLook(value, name) {
  try {
    if (value instanceof Map) {
      const size = Object.getOwnPropertyDescriptor(Map.prototype, "size").get.call(value);
      return braces(`${name}(${size}) `, name, size, (state) => mapEntries(state, value, size));
    }
    if (value instanceof Set) {
      const size = Object.getOwnPropertyDescriptor(Set.prototype, "size").get.call(value);
      return braces(`${name}(${size}) `, name, size, (state) => setEntries(state, value, size));
    }
    if (value instanceof ArrayBuffer) {
      const bytes = new Uint8Array(value);
      return braces(`${name} `, name, 2, () => bufferEntries(bytes));
    }
  } catch {
    return null;
  }
  if (value instanceof WeakMap || value instanceof WeakSet) return braces(`${name} `, name, 1, () => ["<items unknown>"]);
  return null;
}

function objectLook(value, name) {
  const tag = tagOf(value);
  const shownTag = tag && tag !== name ? ` [${tag}]` : "";
  if (name === null) return braces(`[Object: null prototype]${shownTag} `, "Object: null prototype");
  return braces(name === "Object" && !shownTag ? "" : `${name}${shownTag} `, name);
}

function functionText(value, name) {
  const source = Function.prototype.toString.call(value);
  const title = dataText(Object.getOwnPropertyDescriptor(value, "name"));
  if (/^class\b/.test(source)) {
    const parent = Object.getPrototypeOf(value);
    const over = typeof parent === "function" ? dataText(Object.getOwnPropertyDescriptor(parent, "name")) : "";
    return `[class ${title || "(anonymous)"}${over ? ` extends ${over}` : ""}]`;
  }
  const kind = /^(?:Async)?(?:Generator)?Function$/.test(name ?? "") ? name : "Function";
  return title ? `[${kind}: ${title}]` : `[${kind} (anonymous)]`;
}

function errorLook(error, name) {
  const message = engineText(error, "message");
  const title = engineText(error, "name") || name || "Error";
  const head = message ? `${title}: ${message}` : title;
  const stack = engineText(error, "stack").trimEnd();
  const entries = (state) => {
    const shown = [];
    for (const key of ["cause", "errors"]) {
      const held = Object.getOwnPropertyDescriptor(error, key);
      if (held && !held.enumerable) shown.push(`[${key}]: ${held.get ? "[Getter]" : show(state, held.value)}`);
    }
    return shown;
  };
  // QuickJS writes the frames alone, other engines the error's own line above them.
  const frames = stack.startsWith(head) || /^\w*(?:Error|Exception)\b/.test(stack) ? stack : `${head}\n${stack}`;
  const view = bare(stack ? frames : `[${head}]`, ["name", "message", "stack"]);
  return { ...view, entries, name: title };
}

function elements(state, list, length, holes) {
  const shown = [];
  let index = 0;
  while (index < length && shown.length < ENTRIES_MAX) {
    const slot = holes ? Object.getOwnPropertyDescriptor(list, index) : { value: list[index] };
    if (slot) {
      shown.push(slotText(state, slot));
      index++;
      continue;
    }
    const start = index;
    index = nextElement(list, index, length);
    shown.push(`<${index - start} empty item${index - start > 1 ? "s" : ""}>`);
  }
  if (index < length) shown.push(more(length - index));
  return shown;
}

/** Where a hole ends. The keys are asked, as a hole may have four billion places. */
function nextElement(list, from, length) {
  for (let index = from + 1; index < length && index < from + ENTRIES_MAX; index++) {
    if (Object.hasOwn(list, index)) return index;
  }
  for (const key of Object.keys(list)) {
    if (isIndex(key) && Number(key) > from) return Number(key);
  }
  return length;
}

function more(count) {
  return `... ${count} more item${count > 1 ? "s" : ""}`;
}

function mapEntries(state, map, size) {
  const shown = [];
  for (const [key, value] of Map.prototype.entries.call(map)) {
    if (shown.length === ENTRIES_MAX) return [...shown, more(size - ENTRIES_MAX)];
    shown.push(`${show(state, key)} => ${show(state, value)}`);
  }
  return shown;
}

function setEntries(state, set, size) {
  const shown = [];
  for (const value of Set.prototype.values.call(set)) {
    if (shown.length === ENTRIES_MAX) return [...shown, more(size - ENTRIES_MAX)];
    shown.push(show(state, value));
  }
  return shown;
}

/** Bytes of an ArrayBuffer that are shown. Node has the same. */
const BUFFER_MAX = 50;

function bufferEntries(bytes) {
  const hex = Array.from(bytes.subarray(0, BUFFER_MAX), (byte) => (byte + 0x100).toString(16).slice(1)).join(" ");
  const over = bytes.length - BUFFER_MAX;
  const rest = over > 0 ? ` ... ${over} more byte${over > 1 ? "s" : ""}` : "";
  return [`[Uint8Contents]: <${hex}${rest}>`, `byteLength: ${bytes.length}`];
}

function properties(state, value, view) {
  const shown = [];
  // A typed array of a million elements has a million keys, and almost never one that is not an index.
  if (view.indexed && view.list !== null && ArrayBuffer.isView(view.list)) return shown;
  for (const key of Reflect.ownKeys(value)) {
    if (view.indexed && typeof key === "string" && (isIndex(key) || key === "length")) continue;
    const slot = Object.getOwnPropertyDescriptor(value, key);
    if (!slot?.enumerable || view.hidden.includes(key)) continue;
    shown.push(`${keyText(key)}: ${slotText(state, slot)}`);
  }
  return shown;
}

function isIndex(key) {
  return /^(?:0|[1-9][0-9]{0,9})$/.test(key);
}

function keyText(key) {
  if (typeof key === "symbol") return `[${String(key)}]`;
  return /^[a-zA-Z_][a-zA-Z_0-9]*$/.test(key) ? key : quoted(key);
}

function slotText(state, slot) {
  // Only whether there are properties is asked.
  if (state === null) return "";
  if (slot.get) return slot.set ? "[Getter/Setter]" : "[Getter]";
  return slot.set ? "[Setter]" : show(state, slot.value);
}

/** One line if all fits on it, else a line for each entry; long lists stand in columns. */
function layOut(state, view, entries, level) {
  const pad = `\n${" ".repeat(state.indent)}`;
  const base = state.indent > 0 ? view.base.replaceAll("\n", pad) : view.base;
  const open = view.open ?? "{";
  if (entries.length === 0) return view.open === null ? base : `${open}${view.close}`;
  const lines = view.indexed && view.list !== null && entries.length > 6 ? columns(state, entries, view.list) : entries;
  const front = base ? `${base} ` : "";
  // Node's rule: at most three levels share a line, and ten columns are kept free.
  if (lines === entries && state.deepest - level < 3 && !base.includes("\n")) {
    const length = entries.reduce((sum, entry) => sum + entry.length + 2, 0);
    const joined = entries.join(", ");
    if (length + state.indent + open.length + base.length + 10 <= LINE && !joined.includes("\n")) {
      return `${front}${open} ${joined} ${view.close}`;
    }
  }
  return `${front}${open}${pad}  ${lines.join(`,${pad}  `)}${pad}${view.close}`;
}

/** Puts the entries of a long list side by side, in about the shape of a square; the numbers are Node's. */
function columns(state, entries, list) {
  const over = entries[entries.length - 1].startsWith("... ");
  const count = over ? entries.length - 1 : entries.length;
  let total = 0;
  let longest = 0;
  for (let index = 0; index < count; index++) {
    total += entries[index].length + 2;
    longest = Math.max(longest, entries[index].length);
  }
  const widest = longest + 2;
  const alike = total / widest > 5 || longest <= 6;
  if (widest * 3 + state.indent >= LINE || !alike || entries.some((entry) => entry.includes("\n"))) return entries;
  const biased = Math.max(widest - 3 - Math.sqrt(widest - total / entries.length), 1);
  const square = Math.round(Math.sqrt(2.5 * biased * count) / biased);
  const across = Math.min(square, Math.floor((LINE - state.indent) / widest), 12);
  if (across <= 1) return entries;
  const numeric = entries.every((entry, index) => index >= count || /^-?[0-9.e+-]+n?$/.test(entry));
  const widths = Array.from({ length: across }, (_, column) => {
    let width = 0;
    for (let index = column; index < count; index += across) width = Math.max(width, entries[index].length);
    return width;
  });
  const lines = [];
  for (let start = 0; start < count; start += across) {
    const row = entries.slice(start, Math.min(start + across, count));
    const cells = row.map((entry, column) => {
      const last = column === row.length - 1;
      if (numeric) return entry.padStart(widths[column]) + (last ? "" : ", ");
      return last ? entry : `${entry}, `.padEnd(widths[column] + 2);
    });
    lines.push(cells.join(""));
  }
  if (over) lines.push(entries[count]);
  return lines;
}

function primitive(value) {
  if (typeof value === "number") return number(value);
  if (typeof value === "bigint") return `${value}n`;
  return String(value);
}

function number(value) {
  return Object.is(value, -0) ? "-0" : `${value}`;
}

const ESCAPES = { "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", "\\": "\\\\" };

function quoted(text) {
  const over = text.length - STRING_MAX;
  if (over > 0) return `${quoted(text.slice(0, STRING_MAX))}... ${over} more character${over > 1 ? "s" : ""}`;
  const quote = !text.includes("'") ? "'" : !text.includes('"') ? '"' : !/`|\$\{/.test(text) ? "`" : "'";
  const escaped = text.toWellFormed().replace(/[\x00-\x1f\x7f-\x9f\\']/g, (found) => {
    if (found === "'") return quote === "'" ? "\\'" : found;
    return ESCAPES[found] ?? `\\x${found.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`;
  });
  return quote + escaped + quote;
}

/** The name of the nearest class that says one; null if nothing is inherited. */
function nameOf(value) {
  let holder = value;
  for (let step = 0; step < PROTOTYPES_MAX && holder !== null; step++) {
    const made = Object.getOwnPropertyDescriptor(holder, "constructor")?.value;
    // An object with a key of this name is not made by what it holds, unless that made it.
    if (typeof made === "function" && (step > 0 || value instanceof made)) {
      const name = dataText(Object.getOwnPropertyDescriptor(made, "name"));
      if (name) return name;
    }
    holder = Object.getPrototypeOf(holder);
  }
  return Object.getPrototypeOf(value) === null ? null : "Object";
}

function tagOf(value) {
  // One of its own is shown among its properties.
  const slot = find(value, Symbol.toStringTag);
  return slot?.enumerable && Object.hasOwn(value, Symbol.toStringTag) ? "" : dataText(slot);
}

/** Whether `instanceof` could walk for ever. */
function isEndless(value) {
  let holder = value;
  for (let step = 0; step < PROTOTYPES_MAX && holder !== null; step++) holder = Object.getPrototypeOf(holder);
  return holder !== null;
}

/** The nearest descriptor of a property; looking at it runs no getter. */
function find(value, key) {
  let holder = value;
  for (let step = 0; step < PROTOTYPES_MAX && holder !== null; step++) {
    const slot = Object.getOwnPropertyDescriptor(holder, key);
    if (slot) return slot;
    holder = Object.getPrototypeOf(holder);
  }
  return undefined;
}

/** A text of an error; a DOMException has getters for it, and only those of the engine are run. */
function engineText(error, key) {
  const slot = find(error, key);
  return isNative(slot?.get) ? String(slot.get.call(error)) : dataText(slot);
}

function isNative(called) {
  return typeof called === "function" && /\{\s*\[native code\]\s*\}\s*$/.test(Function.prototype.toString.call(called));
}

function dataText(slot) {
  return typeof slot?.value === "string" ? slot.value : "";
}

export function install() {
  return { $format: format };
}
