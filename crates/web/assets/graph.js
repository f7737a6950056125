// The task's graph: one column a level of dependency, a card a step, lines between them; and the details of one step.

import { call } from "./api.js";
import { drawing, duration, element, pretty, visible } from "./element.js";

const CARD = { width: 158, height: 62, gapX: 34, gapY: 14 };

/** Draws a task document and keeps the chosen step's details beside it. */
export class Graph {
  constructor({ graph, step, approvals }) {
    this.graph = graph;
    this.step = step;
    this.approvals = approvals;
    this.chosen = null;
    this.task = null;
  }

  clear() {
    this.chosen = null;
    this.task = null;
    this.graph.replaceChildren();
    this.step.replaceChildren();
    this.approvals.replaceChildren();
  }

  show(task) {
    if (this.task?.id !== task.id) this.chosen = null;
    this.task = task;
    this.draw();
    this.askApprovals();
    this.details();
  }

  draw() {
    const places = layout(this.task.steps);
    const width = Math.max(...places.map((p) => p.x), 0) + CARD.width + 8;
    const height = Math.max(...places.map((p) => p.y), 0) + CARD.height + 8;
    const picture = drawing("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": "Steps of the task" });
    const byId = new Map(places.map((place) => [place.step.id, place]));
    for (const place of places) {
      for (const id of place.step.depends_on) {
        const from = byId.get(id);
        if (from) picture.append(edge(from, place));
      }
    }
    for (const place of places) picture.append(this.card(place));
    const notes = this.task.degraded.map((reason) => element("p", { class: "degraded" }, visible(reason)));
    this.graph.replaceChildren(...notes, element("div", { class: "scroll" }, picture));
  }

  card({ step, x, y }) {
    const choose = () => { this.chosen = step.id; this.draw(); this.details(); };
    const title = step.tool ?? step.kind;
    const where = [step.model ?? step.placement?.chosen?.name, took(step)].filter(Boolean).join(" · ");
    return drawing("g", {
      class: `card ${step.status} ${step.id === this.chosen ? "chosen" : ""}`,
      transform: `translate(${x} ${y})`, tabindex: 0, role: "button", "data-step": step.id, "data-status": step.status,
      "aria-label": `${step.id}: ${title}, ${step.status}`,
      onclick: choose,
      onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(); } },
    },
    drawing("rect", { width: CARD.width, height: CARD.height, rx: 8 }),
    drawing("text", { x: 10, y: 20, class: "title" }, clip(title, 20)),
    drawing("text", { x: 10, y: 37 }, clip(`${step.id} · ${step.status.replaceAll("_", " ")}`, 26)),
    drawing("text", { x: 10, y: 53, class: "quiet" }, clip(where, 26)));
  }

  details() {
    const step = this.task?.steps.find((candidate) => candidate.id === this.chosen);
    if (!step) { this.step.replaceChildren(); return; }
    const rows = [
      ["Status", step.status.replaceAll("_", " ") + (step.attempt > 1 ? ` (attempt ${step.attempt})` : "")],
      ["Node", step.placement?.chosen?.name],
      ["Model", step.model],
      ["Wants", step.specialization],
      ["Time", took(step)],
      ["Tokens", step.tokens_in === undefined ? undefined : `${step.tokens_in} read, ${step.tokens_out} written`],
      ["Labels", step.labels && `${step.labels.sources.join(", ")}; ${step.labels.trust}`],
      ["Confined by", step.enforced?.length ? step.enforced.join(", ") : undefined],
    ].filter(([, value]) => value);
    const placement = step.placement ?? { reasons: [], rejected: [] };
    this.step.replaceChildren(
      element("h2", {}, `${step.id}: ${step.tool ?? step.kind}`),
      element("dl", {}, rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, visible(value))])),
      ...section("Why this node", placement.reasons.length && element("ul", {}, placement.reasons.map((reason) => element("li", {}, visible(reason))))),
      ...section("Not chosen", placement.rejected.length && element("ul", {}, placement.rejected.map((other) =>
        element("li", {}, visible(`${other.name}${other.model ? ` with ${other.model}` : ""}: ${other.reason}`))))),
      ...section("Error", step.error && element("p", { class: "error" }, visible([step.error.detail, step.error.next_step].filter(Boolean).join(" ")))),
      ...section("Inputs", Object.keys(step.inputs ?? {}).length && element("pre", {}, pretty(step.inputs))),
      ...section("Output", step.output !== undefined && element("pre", {}, pretty(step.output))),
    );
  }

  askApprovals() {
    const waiting = this.task.steps.filter((step) => step.status === "awaiting_approval" || step.status === "outcome_unknown");
    this.approvals.replaceChildren(...waiting.map((step) => this.approval(step)));
  }

  approval(step) {
    const request = step.approval;
    const answer = (decision) => async () => {
      card.querySelectorAll("button").forEach((button) => { button.disabled = true; });
      try {
        await call("POST", `/v1/tasks/${this.task.id}/steps/${step.id}/approval`, { decision, digest: request?.digest });
      } catch (error) {
        card.querySelectorAll("button").forEach((button) => { button.disabled = false; });
        card.append(element("p", { class: "error" }, error.message));
      }
    };
    const unknown = step.status === "outcome_unknown";
    const card = element("article", { class: "approval", "data-step": step.id },
      element("h2", {}, unknown ? `It is not known whether ${step.tool} has run` : `May ${step.tool} run?`),
      element("p", {}, visible(unknown ? (step.error?.detail ?? "") : request.reason)),
      request?.command && element("pre", {}, visible(request.command.join(" "))),
      element("pre", {}, pretty(request?.arguments ?? step.inputs)),
      element("button", { type: "button", class: "allow", onclick: answer("approve") }, unknown ? "Run it again" : "Allow"),
      element("button", { type: "button", class: "deny", onclick: answer("deny") }, unknown ? "Leave it" : "Do not allow"));
    return card;
  }
}

function section(title, content) {
  return content ? [element("h3", {}, title), content] : [];
}

function took(step) {
  if (!step.started_at || !step.ended_at) return undefined;
  return duration(new Date(step.ended_at) - new Date(step.started_at));
}

function clip(text, length) {
  const shown = visible(text ?? "");
  return shown.length > length ? `${shown.slice(0, length - 1)}…` : shown;
}

function edge(from, to) {
  const [x1, y1] = [from.x + CARD.width, from.y + CARD.height / 2];
  const [x2, y2] = [to.x, to.y + CARD.height / 2];
  const middle = (x1 + x2) / 2;
  return drawing("path", { class: "edge", d: `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}` });
}

function layout(steps) {
  const level = new Map();
  for (const step of steps) {
    // Steps are listed in the order in which they were added; a step added by a plan may still precede one that waits for it.
    level.set(step.id, 0);
  }
  for (let round = 0; round < steps.length; round += 1) {
    let changed = false;
    for (const step of steps) {
      const depth = Math.max(-1, ...step.depends_on.map((id) => level.get(id) ?? -1)) + 1;
      if (depth !== level.get(step.id)) { level.set(step.id, depth); changed = true; }
    }
    if (!changed) break;
  }
  const rows = new Map();
  return steps.map((step) => {
    const column = level.get(step.id);
    const row = rows.get(column) ?? 0;
    rows.set(column, row + 1);
    return { step, x: 4 + column * (CARD.width + CARD.gapX), y: 4 + row * (CARD.height + CARD.gapY) };
  });
}
