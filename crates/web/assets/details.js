// One step in full: where it ran and why there, what went in, what came out.

import { duration, element, exact, pretty, prose } from "./element.js";

export class Details {
  constructor(target) {
    this.target = target;
    this.clear();
  }

  clear() {
    this.shown = null;
    this.target.replaceChildren();
  }

  /** Draws only what has changed, so that a selection or a scrolled output stays. */
  show(step, cause) {
    if (!step) { if (this.shown) this.clear(); return; }
    const shown = JSON.stringify([step, cause]);
    if (shown === this.shown) return;
    this.shown = shown;
    this.target.replaceChildren(...content(step, cause));
  }
}

function content(step, cause) {
  const { chosen, reasons, rejected } = step.placement ?? { reasons: [], rejected: [] };
  const rows = [
    ["Status", step.status.replaceAll("_", " ") + (step.attempt > 1 ? ` (attempt ${step.attempt})` : "")],
    ["Waits for", step.waiting],
    ["Added by", step.added_by ?? cause],
    ["For each of", step.for_each && `${step.for_each.over.$from}${step.for_each.over.path ?? ""}`],
    ["Only if", step.when && `${step.when.value.$from}${step.when.value.path ?? ""} ${JSON.stringify(step.when.is)}`],
    ["After", step.depends_on.join(", ")],
    ["Node", chosen?.name ?? step.node],
    ["Model", step.model],
    ["Wants", step.specialization],
    ["Time", took(step)],
    ["Tokens", step.tokens_in === undefined && step.tokens_out === undefined ? "" : `${step.tokens_in ?? "?"} read, ${step.tokens_out ?? "?"} written`],
    ["Labels", step.labels && `${step.labels.sources.join(", ")}; ${step.labels.trust}`],
    ["Confined by", (step.enforced ?? []).join(", ")],
  ].filter(([, value]) => value);
  return [
    element("h2", {}, exact(`${step.id}: ${step.tool ?? step.kind}`)),
    element("dl", {}, rows.map(([name, value]) => [element("dt", {}, name), element("dd", {}, prose(value))])),
    ...section("Error", step.error && element("p", { class: "error" }, prose([step.error.detail, step.error.next_step].filter(Boolean).join(" ")))),
    ...section("Why this node", reasons.length && element("ul", { class: "reasons" }, reasons.map((reason) => element("li", {}, prose(reason))))),
    ...section("Not chosen", rejected.length && element("ul", { class: "rejected" }, rejected.map((other) =>
      element("li", {}, prose(`${other.name}${other.model ? ` with ${other.model}` : ""}: ${other.reason}`))))),
    ...section("Inputs", Object.keys(step.inputs ?? {}).length && element("pre", { class: "inputs", tabindex: 0 }, pretty(step.inputs))),
    ...section("Output", step.output !== undefined && element("pre", { class: "output", tabindex: 0 }, pretty(step.output))),
  ];
}

/** How long a step took, once it has ended. */
export function took(step) {
  if (!step.started_at || !step.ended_at) return undefined;
  return duration(new Date(step.ended_at) - new Date(step.started_at));
}

function section(title, body) {
  return body ? [element("h3", {}, title), body] : [];
}
