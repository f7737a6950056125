// The Markdown that models write, as elements: headings, lists, code, quotes, tables, emphasis, links.
// Pictures are never loaded (a picture's address can carry data away); a link shows where it leads.
// Every rule takes time about linear in the text, whatever the text is: models repeat themselves.

import { element, prose } from "./element.js";

const DEEPEST = 8;

/**
 * The blocks of a text, each as its source and a function that builds its element. The element depends on the
 * source alone, so that a text that grows need only rebuild the blocks that changed.
 */
export function blocks(text, depth = 0) {
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) { at += 1; continue; }
    const kind = depth > DEEPEST ? PARAGRAPH : KINDS.find((one) => one.starts(lines, at));
    const next = Math.max(kind.ends(lines, at), at + 1);
    const own = lines.slice(at, next);
    found.push({ source: own.join("\n"), build: () => kind.build(own, depth) });
    at = next;
  }
  return found;
}

// A block that holds blocks cannot leave its direction to the browser: `auto` does not look into parts that have a direction of their own.
const RIGHT_TO_LEFT = /[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}\p{Script=Adlam}]/u;
const direction = (lines) => (RIGHT_TO_LEFT.test(/\p{L}/u.exec(lines.find((line) => /\p{L}/u.test(line)) ?? "")?.[0] ?? "") ? "rtl" : null);

const build = (lines, depth) => blocks(lines.join("\n"), depth).map((block) => block.build());

const FENCE = /^\s*(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*)$/s;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(?:\s(.*))?$/s;
const QUOTE = /^ {0,3}> ?(.*)$/s;
const RULE = /^ {0,3}(?:(?:-\s*){3,}|(?:\*\s*){3,}|(?:_\s*){3,})$/;

const indent = (line) => line.length - line.trimStart().length;
const cells = (line) => line.trim().replace(/^\||(?<!\\)\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim());

const CODE = {
  starts: (lines, at) => FENCE.test(lines[at]),
  ends(lines, at) {
    const fence = FENCE.exec(lines[at])[1];
    return end(lines, at, (line, index) => index === at || !closes(line, fence)) + 1;
  },
  build(lines) {
    const [, fence, info] = FENCE.exec(lines[0]);
    const margin = indent(lines[0]);
    const last = lines.length > 1 && closes(lines.at(-1), fence) ? -1 : undefined;
    const text = lines.slice(1, last).map((line) => line.slice(Math.min(indent(line), margin))).join("\n");
    return element("pre", { "data-language": info.trim().split(/\s/)[0].slice(0, 30) || null, tabindex: 0 }, element("code", {}, prose(text)));
  },
};

function closes(line, fence) {
  const text = line.trim();
  return text.length >= fence.length && text === fence[0].repeat(text.length);
}

const TITLE = {
  starts: (lines, at) => HEADING.test(lines[at]),
  ends: (_, at) => at + 1,
  build(lines) {
    const [, marks, text] = HEADING.exec(lines[0]);
    // The page's own headings are h1 and h2.
    return element(`h${Math.min(marks.length + 2, 6)}`, { dir: "auto" }, inline(text));
  },
};

const LINE = { starts: (lines, at) => RULE.test(lines[at]), ends: (_, at) => at + 1, build: () => element("hr") };

const LIST = {
  starts: (lines, at) => ITEM.test(lines[at]),
  ends(lines, at) {
    const base = indent(lines[at]);
    let next = at + 1;
    while (next < lines.length) {
      let filled = next;
      while (filled < lines.length && !lines[filled].trim()) filled += 1;
      if (filled === lines.length) return next;
      const line = lines[filled];
      const goesOn = indent(line) > base || (ITEM.test(line) && ordered(line) === ordered(lines[at]) && !RULE.test(line)) ||
        (filled === next && !interrupts(lines, filled));
      if (!goesOn) return next;
      next = filled + 1;
    }
    return next;
  },
  build(lines, depth) {
    const base = indent(lines[0]);
    const numbered = ordered(lines[0]);
    const items = [];
    for (const line of lines) {
      const item = indent(line) <= base + 1 && ITEM.exec(line);
      if (item && ordered(line) === numbered) items.push({ text: [item[3] ?? ""], width: item[1].length + item[2].length + 1 });
      else items.at(-1).text.push(line.slice(Math.min(indent(line), items.at(-1).width)));
    }
    const start = numbered ? parseInt(lines[0].trim(), 10) : 1;
    return element(numbered ? "ol" : "ul", { start: start === 1 ? null : start, dir: direction(lines) },
      items.map((item) => element("li", {}, build(item.text, depth + 1))));
  },
};

const ordered = (line) => /\d/.test(ITEM.exec(line)[2]);

const CITATION = {
  starts: (lines, at) => QUOTE.test(lines[at]),
  ends: (lines, at) => end(lines, at, (line) => QUOTE.test(line)),
  build: (lines, depth) => element("blockquote", { dir: direction(lines) }, build(lines.map((line) => QUOTE.exec(line)[1]), depth + 1)),
};

const TABLE = {
  starts: (lines, at) => lines[at].includes("|") && Boolean(lines[at + 1]?.includes("|")) && cells(lines[at + 1]).every((cell) => /^:?-+:?$/.test(cell)),
  ends: (lines, at) => end(lines, at, (line) => line.includes("|")),
  build([first, , ...rest]) {
    const names = cells(first);
    const row = (line) => element("tr", {}, cells(line).slice(0, names.length).map((cell) => element("td", { dir: "auto" }, inline(cell))));
    const head = element("thead", {}, element("tr", {}, names.map((cell) => element("th", { dir: "auto", scope: "col" }, inline(cell)))));
    return element("div", { class: "scroll", tabindex: 0 }, element("table", { dir: direction([first]) }, head, element("tbody", {}, rest.map(row))));
  },
};

const PARAGRAPH = {
  starts: () => true,
  ends: (lines, at) => end(lines, at, (line, index) => index === at || (line.trim() && !interrupts(lines, index))),
  build: (lines) => element("p", { dir: "auto" }, inline(lines.join("\n"))),
};

// A year at the beginning of a line is no list: only the number 1 begins one in the middle of a paragraph.
const interrupts = (lines, at) => [CODE, TITLE, LINE, CITATION, TABLE].some((kind) => kind.starts(lines, at)) || /^\s*(?:[-*+]|1[.)])\s/.test(lines[at]);

function end(lines, at, belongs) {
  let next = at;
  while (next < lines.length && belongs(lines[next], next)) next += 1;
  return next;
}

const KINDS = [CODE, TITLE, LINE, LIST, CITATION, TABLE, PARAGRAPH];

const PLAIN = /[^\\`*_~![]+/y;
const TICKS = /`+/y;
const LINK = /!?\[([^[\]]{0,500})\]\(\s{0,9}<?([^\s()<>]{0,2000}(?:\([^\s()<>]{0,500}\)[^\s()<>]{0,500})?)>?(?:\s{1,9}"[^"]{0,500}")?\s{0,9}\)/y;
const ESCAPE = /\\([!-/:-@[-`{-~])/y;
const MARKS = [["***", "strong", "em"], ["___", "strong", "em"], ["**", "strong"], ["__", "strong"], ["~~", "del"], ["*", "em"], ["_", "em"]];

function inline(text, depth = 0) {
  const parts = [];
  // Marks that no later text closes: looked for once, so that a text full of opening marks stays linear.
  const unclosed = new Set();
  let plain = "";
  let at = 0;
  while (at < text.length) {
    const [node, next] = span(text, at, unclosed, depth);
    if (typeof node === "string") plain += node;
    else { parts.push(...prose(plain), node); plain = ""; }
    at = next;
  }
  parts.push(...prose(plain));
  return parts;
}

function read(pattern, text, at) {
  pattern.lastIndex = at;
  return pattern.exec(text);
}

function span(text, at, unclosed, depth) {
  const plain = read(PLAIN, text, at) ?? read(ESCAPE, text, at);
  if (plain) return [plain[1] ?? plain[0], at + plain[0].length];
  if (text[at] === "`") return codeSpan(text, at, unclosed);
  const target = (text[at] === "[" || text[at] === "!") && read(LINK, text, at);
  if (target) return [link(target[1], target[2], target[0].startsWith("!")), at + target[0].length];
  return (depth <= DEEPEST && emphasis(text, at, unclosed, depth)) || [text[at], at + 1];
}

function codeSpan(text, at, unclosed) {
  const ticks = read(TICKS, text, at)[0];
  let close = unclosed.has(ticks) ? -1 : at + ticks.length;
  while (close >= 0) {
    close = text.indexOf(ticks, close);
    if (close < 0) break;
    const run = read(TICKS, text, close)[0].length;
    if (run === ticks.length) return [element("code", {}, prose(text.slice(at + run, close))), close + run];
    close += run;
  }
  unclosed.add(ticks);
  return [ticks, at + ticks.length];
}

function emphasis(text, at, unclosed, depth) {
  const found = MARKS.find(([mark]) => text.startsWith(mark, at));
  if (!found) return null;
  const [mark, ...names] = found;
  const open = at + mark.length;
  const word = mark[0] === "_" && /\w/.test(text[at - 1] ?? "");
  if (unclosed.has(mark) || word || /^\s?$/.test(text[open] ?? "")) return [mark, open];
  let close = text.indexOf(mark, open + 1);
  while (close >= 0 && !shuts(text, close, mark)) close = text.indexOf(mark, close + (mark.length === 1 && text[close + 1] === mark ? 2 : 1));
  if (close < 0) { unclosed.add(mark); return [mark, open]; }
  const content = inline(text.slice(open, close), depth + 1);
  return [names.reduceRight((inner, name) => [element(name, {}, inner)], content)[0], close + mark.length];
}

function shuts(text, close, mark) {
  const after = text[close + mark.length] ?? "";
  if (/\s/.test(text[close - 1]) || after === mark[0]) return false;
  return mark[0] !== "_" || !/\w/.test(after);
}

function link(text, target, picture) {
  let address;
  try { address = new URL(target); } catch { address = null; }
  const safe = address && (address.protocol === "https:" || address.protocol === "http:");
  if (!safe || picture) return element("span", { class: "quiet" }, prose(`${picture ? "picture not loaded: " : ""}${text} (${target})`));
  const anchor = element("a", { href: address.href, rel: "noopener noreferrer nofollow", target: "_blank", title: address.href }, prose(text || address.href));
  return text === target || !text ? anchor : element("span", {}, anchor, element("span", { class: "quiet" }, ` (${address.host})`));
}
