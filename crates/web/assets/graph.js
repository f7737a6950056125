// The task's graph: a row a level of dependency, a card a step, lines between them.

import { Details, took } from "./details.js";
import { assign, drawing, element, prose, visible } from "./element.js";
import { layout } from "./layout.js";

/** Draws a task document and keeps the chosen step's details beside it. */
export class Graph {
  constructor({ graph, step }) {
    this.target = graph;
    this.empty = [...graph.childNodes];
    this.details = new Details(step);
    this.room = 0;
    this.clear();
    // The room is that of the panel: the graph itself is as wide as its cards.
    new ResizeObserver(() => { if (this.task && this.measure() !== this.room) this.draw(); }).observe(graph.parentElement);
  }

  clear() {
    this.task = null;
    this.causes = new Map();
    this.chosen = null;
    this.cards = new Map();
    this.edges = drawing("g");
    this.picture = drawing("svg", { role: "group", "aria-label": "Steps of the task" }, this.edges);
    this.notes = element("div", { role: "status" });
    this.target.replaceChildren(...this.empty);
    this.details.clear();
  }

  /** `causes` tells for steps that another step called for which one that was. */
  show(task, causes) {
    if (this.task?.id !== task.id) {
      this.clear();
      this.target.replaceChildren(this.notes, element("div", { class: "scroll" }, this.picture));
    }
    this.task = task;
    this.causes = causes;
    const notes = task.degraded.join("\n");
    if (this.noted !== notes || !this.notes.childNodes.length) {
      this.noted = notes;
      this.notes.replaceChildren(...task.degraded.map((reason) => element("p", { class: "degraded" }, prose(reason))));
    }
    this.draw();
  }

  measure() {
    const panel = this.target.parentElement;
    const { paddingLeft, paddingRight } = getComputedStyle(panel);
    return panel.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
  }

  /** Changes the cards in place, so that focus and scrolling stay. */
  draw() {
    this.room = this.measure();
    const { places, card: size, edges, width, height } = layout(this.task.steps, this.causes, this.room);
    assign(this.picture, { viewBox: `0 0 ${width} ${height}`, width, height });
    this.edges.replaceChildren(...edges.map((path) => drawing("path", { class: "edge", d: path })));
    for (const { step, x, y } of places) {
      let card = this.cards.get(step.id);
      if (!card) {
        card = new Card(() => this.choose(step.id));
        this.cards.set(step.id, card);
        this.picture.append(card.group);
      }
      card.show(step, { x, y, ...size }, step.id === this.chosen);
    }
    this.details.show(this.task.steps.find((step) => step.id === this.chosen), this.causes.get(this.chosen));
  }

  choose(id) {
    this.chosen = this.chosen === id ? null : id;
    this.draw();
  }
}

class Card {
  constructor(choose) {
    this.title = drawing("text", { x: 12, y: 21, class: "title" });
    this.time = drawing("text", { y: 21, class: "time", "text-anchor": "end" });
    this.state = drawing("text", { x: 12, y: 39, class: "state" });
    this.place = drawing("text", { x: 12, y: 55, class: "place" });
    this.hint = drawing("title");
    this.frame = drawing("rect", { rx: 9 });
    this.mark = drawing("rect", { class: "mark", width: 5, x: 0, y: 8, rx: 2.5 });
    this.group = drawing("g", {
      tabindex: 0, role: "button", "aria-controls": "step", onclick: choose,
      onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(); } },
    }, this.hint, this.frame, this.mark, this.title, this.time, this.state, this.place);
  }

  show(step, { x, y, width, height }, chosen) {
    const name = step.tool ?? step.kind;
    const status = step.status.replaceAll("_", " ");
    const where = [step.placement?.chosen?.name ?? step.node, step.model].filter(Boolean).join(" · ");
    const time = took(step) ?? "";
    assign(this.group, {
      class: `card ${step.status}${chosen ? " chosen" : ""}`, transform: `translate(${x} ${y})`, "aria-pressed": String(chosen),
      "data-step": step.id, "data-status": step.status,
      "aria-label": visible([`${step.id}: ${name}`, status, where, time].filter(Boolean).join(", ")),
    });
    assign(this.frame, { width, height });
    assign(this.mark, { height: height - 16 });
    assign(this.time, { x: width - 12 });
    // About as many characters as the width holds: the title is set larger and shares its line with the time.
    const small = Math.floor((width - 24) / 6.1);
    const large = Math.floor((width - 30 - time.length * 6.4) / 8);
    write(this.hint, [name, where, step.waiting].filter(Boolean).join("\n"));
    write(this.title, clip(name, large));
    write(this.time, time);
    write(this.state, clip(`${step.id === name ? "" : `${step.id} · `}${status}${step.attempt > 1 ? ` (attempt ${step.attempt})` : ""}`, small));
    write(this.place, clip(step.waiting && step.status === "ready" ? step.waiting : where, small));
  }
}

function write(target, text) {
  const shown = visible(text);
  if (target.textContent !== shown) target.textContent = shown;
}

function clip(text, length) {
  const characters = Array.from(visible(text));
  return characters.length > length ? `${characters.slice(0, length - 1).join("")}…` : characters.join("");
}
