// Builds elements. Text stays text: nothing here, or anywhere in the page, parses markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes (`on…` are listeners, `class` and the rest as named) and children (nodes or text). */
export function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function drawing(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** Sets attributes that differ from what the element has; `undefined`, `null` and `false` take one away. */
export function assign(target, attributes) {
  for (const [key, value] of Object.entries(attributes)) {
    const text = value === true ? "" : String(value);
    if (value === undefined || value === null || value === false) target.removeAttribute(key);
    else if (target.getAttribute(key) !== text) target.setAttribute(key, text);
  }
}

function fill(target, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) target.addEventListener(key.slice(2), value);
    else assign(target, { [key]: value });
  }
  for (const child of children.flat(2)) {
    if (child !== undefined && child !== null && child !== false) target.append(child);
  }
  return target;
}

// Everything that cannot be seen or that reorders its neighbours: it could make an approval read differently from what it does.
const HIDDEN = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;
// Of these, what prose has no use for; joiners, direction marks, soft hyphens and variation selectors are part of real writing.
const DECEPTIVE = /[\p{Cc}\p{Cs}\u200b\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

const kept = (c) => c === "\n" || c === "\t";
const code = (c) => c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");

/** Text in which every invisible or reordering character is named in brackets. */
export function visible(text) {
  return String(text).replace(HIDDEN, (c) => (kept(c) ? c : `[U+${code(c)}]`));
}

/** The same as nodes, the names set apart from text that only looks like one. */
export function exact(text) {
  return mark(String(text), HIDDEN);
}

/** Prose as nodes: what deceives is named, what writing needs is kept. */
export function prose(text) {
  return mark(String(text).replaceAll("\r\n", "\n"), DECEPTIVE);
}

function mark(text, pattern) {
  const nodes = [];
  let from = 0;
  for (const { 0: c, index } of text.matchAll(pattern)) {
    if (kept(c)) continue;
    if (index > from) nodes.push(text.slice(from, index));
    nodes.push(element("mark", { title: "A character that cannot be seen" }, `U+${code(c)}`));
    from = index + c.length;
  }
  if (from < text.length) nodes.push(text.slice(from));
  return nodes;
}

/** A value as indented JSON, or as text if it is text; as nodes. */
export function pretty(value) {
  return typeof value === "string" ? prose(value) : exact(JSON.stringify(value, null, 2));
}

/** Milliseconds for people. */
export function duration(ms) {
  if (ms < 1000) return `${Math.max(Math.round(ms), 0)} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60000)} min ${Math.floor((ms % 60000) / 1000)} s`;
}

/** Bytes for people. */
export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${count.toFixed(unit > 2 ? 1 : 0)} ${units[unit]}`;
}

/** A moment for people, in their own time. */
export function moment(timestamp) {
  return new Date(timestamp).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}
