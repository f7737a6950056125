// A text that is being written: pieces are put where they belong, and only the blocks that changed are drawn again.

import { blocks } from "./markdown.js";

const BETWEEN_DRAWINGS_MS = 50;

export class Writing {
  constructor(target, drawn = () => {}) {
    this.target = target;
    this.drawn = drawn;
    this.sources = [];
    this.timer = null;
    this.clear();
  }

  clear() {
    this.text = "";
    this.length = 0;
  }

  /** Puts `text` at `offset` (in Unicode scalar values), dropping what stood after it. */
  put(offset, text) {
    if (offset < this.length) {
      const before = Array.from(this.text).slice(0, offset);
      this.text = before.join("");
      this.length = before.length;
    }
    this.text += text;
    this.length += Array.from(text).length;
    this.timer ??= setTimeout(() => this.draw(), BETWEEN_DRAWINGS_MS);
  }

  /** Shows a whole text. */
  show(text) {
    this.clear();
    this.put(0, text);
    this.draw();
  }

  draw() {
    clearTimeout(this.timer);
    this.timer = null;
    const next = blocks(this.text);
    let same = 0;
    while (same < next.length && this.sources[same] === next[same].source) same += 1;
    while (this.target.childNodes.length > same) this.target.lastChild.remove();
    this.target.append(...next.slice(same).map((block) => block.build()));
    this.sources = next.map((block) => block.source);
    this.drawn();
  }
}
