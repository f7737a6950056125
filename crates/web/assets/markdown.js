// The Markdown that models write, as elements: headings, lists, code, quotes, tables, emphasis, links.
// Pictures are never loaded (a picture's address can carry data away); a link shows where it leads.

import { element } from "./element.js";

/** Elements for a text. */
export function markdown(text) {
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    const [block, next] = readBlock(lines, at);
    if (block) blocks.push(block);
    at = next;
  }
  return blocks;
}

const FENCE = /^\s{0,3}(```|~~~)\s*([\w+-]*)/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const QUOTE = /^\s{0,3}>\s?(.*)$/;
const RULE = /^\s{0,3}([-*_])(\s*\1){2,}\s*$/;
const DIVIDER = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

function readBlock(lines, at) {
  const line = lines[at];
  if (!line.trim()) return [null, at + 1];
  if (FENCE.test(line)) return readCode(lines, at);
  const heading = HEADING.exec(line);
  if (heading) return [element(`h${Math.min(heading[1].length + 2, 6)}`, {}, inline(heading[2])), at + 1];
  if (RULE.test(line)) return [element("hr"), at + 1];
  if (ITEM.test(line)) return readList(lines, at);
  if (QUOTE.test(line)) return readQuote(lines, at);
  if (line.includes("|") && DIVIDER.test(lines[at + 1] ?? "") && lines[at + 1].includes("|")) return readTable(lines, at);
  return readParagraph(lines, at);
}

function readCode(lines, at) {
  const fence = FENCE.exec(lines[at])[1];
  const code = [];
  let next = at + 1;
  while (next < lines.length && !lines[next].trim().startsWith(fence)) code.push(lines[next++]);
  return [element("pre", {}, element("code", {}, code.join("\n"))), next + 1];
}

function readList(lines, at) {
  const ordered = /\d/.test(ITEM.exec(lines[at])[2]);
  const list = element(ordered ? "ol" : "ul");
  let next = at;
  while (next < lines.length) {
    const item = ITEM.exec(lines[next]);
    if (!item || /\d/.test(item[2]) !== ordered) break;
    const text = [item[3]];
    next += 1;
    while (next < lines.length && lines[next].trim() && !ITEM.test(lines[next]) && /^\s+/.test(lines[next])) text.push(lines[next++].trim());
    list.append(element("li", {}, inline(text.join(" "))));
    if (next < lines.length && !lines[next].trim() && ITEM.test(lines[next + 1] ?? "")) next += 1;
  }
  return [list, next];
}

function readQuote(lines, at) {
  const text = [];
  let next = at;
  while (next < lines.length && QUOTE.test(lines[next])) text.push(QUOTE.exec(lines[next++])[1]);
  return [element("blockquote", {}, inline(text.join(" "))), next];
}

function readTable(lines, at) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const head = element("tr", {}, cells(lines[at]).map((cell) => element("th", {}, inline(cell))));
  const body = element("tbody");
  let next = at + 2;
  while (next < lines.length && lines[next].includes("|")) {
    body.append(element("tr", {}, cells(lines[next++]).map((cell) => element("td", {}, inline(cell)))));
  }
  return [element("table", {}, element("thead", {}, head), body), next];
}

function readParagraph(lines, at) {
  const text = [];
  let next = at;
  const starts = (line) => FENCE.test(line) || HEADING.test(line) || ITEM.test(line) || QUOTE.test(line);
  while (next < lines.length && lines[next].trim() && (next === at || !starts(lines[next]))) text.push(lines[next++]);
  return [element("p", {}, inline(text.join("\n"))), next];
}

const SPAN = /(`+)([\s\S]+?)\1|\*\*([\s\S]+?)\*\*|__([\s\S]+?)__|\*([^*\s][^*]*?)\*|!?\[([^\]]*)\]\(([^()\s]*)\)/;

function inline(text) {
  const parts = [];
  let rest = text;
  while (rest) {
    const span = SPAN.exec(rest);
    if (!span) { parts.push(rest); break; }
    if (span.index) parts.push(rest.slice(0, span.index));
    parts.push(spanElement(span));
    rest = rest.slice(span.index + span[0].length);
  }
  return parts;
}

function spanElement(span) {
  if (span[2] !== undefined) return element("code", {}, span[2]);
  const strong = span[3] ?? span[4];
  if (strong !== undefined) return element("strong", {}, inline(strong));
  if (span[5] !== undefined) return element("em", {}, inline(span[5]));
  return link(span[6], span[7], span[0].startsWith("!"));
}

function link(text, target, picture) {
  let address;
  try { address = new URL(target); } catch { address = null; }
  const safe = address && (address.protocol === "https:" || address.protocol === "http:");
  if (!safe || picture) return element("span", {}, `${text} (${target})`);
  return element("a", { href: address.href, rel: "noopener noreferrer nofollow", target: "_blank", title: address.href }, text || address.href);
}
