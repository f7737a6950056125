// What waits for the person's yes or no. It shows exactly what would run, and answers for exactly that (by its digest).

import { call } from "./api.js";
import { element, exact, prose } from "./element.js";

export class Approvals {
  constructor(target) {
    this.target = target;
    this.cards = new Map();
  }

  clear() {
    this.cards.clear();
    this.target.replaceChildren();
  }

  /** Shows the questions of a task. A card that is already shown stays as it is, with its focus and its pressed buttons. */
  show(task) {
    const waiting = task.steps.filter((step) => step.status === "awaiting_approval" || step.status === "outcome_unknown");
    const cards = new Map(waiting.map((step) => {
      const key = [task.id, step.id, step.status, step.attempt, step.approval?.digest].join(" ");
      return [key, this.cards.get(key) ?? card(task.id, step)];
    }));
    for (const [key, old] of this.cards) if (!cards.has(key)) old.remove();
    for (const [key, fresh] of cards) if (!this.cards.has(key)) this.target.append(fresh);
    this.cards = cards;
  }
}

function card(task, step) {
  const request = step.approval;
  const unknown = step.status === "outcome_unknown";
  const name = request?.tool ?? step.tool ?? step.id;
  const reason = unknown ? step.error?.detail : request?.reason;
  const buttons = [
    ["approve", "allow", unknown ? "Run it again" : "Allow"],
    ["deny", "deny", unknown ? "Leave it" : "Do not allow"],
  ].map(([decision, style, text]) => element("button", { type: "button", class: style, "data-decision": decision, onclick: () => decide(decision) }, text));
  const failure = element("p", { class: "error", role: "alert" });
  const decide = async (decision) => {
    for (const button of buttons) button.disabled = true;
    failure.textContent = "";
    try {
      await call("POST", `/v1/tasks/${task}/steps/${step.id}/approval`, { decision, digest: request?.digest });
    } catch (error) {
      for (const button of buttons) button.disabled = false;
      failure.replaceChildren(...prose(error.message));
    }
  };
  return element("article", { class: "approval", "data-step": step.id },
    element("h2", {}, exact(unknown ? `It is not known whether ${name} has run` : `May ${name} run?`)),
    reason && element("p", {}, prose(reason)),
    request?.command && [element("h3", {}, "Command"), element("pre", { class: "command", tabindex: 0 }, exact(request.command.map(quoted).join(" ")))],
    element("h3", {}, "Arguments"), argumentList(request?.arguments ?? step.inputs),
    request?.spans?.length > 0 && [element("h3", {}, "Others may have written"), element("ul", { class: "spans" }, request.spans.map(foreign))],
    element("p", { class: "choice" }, buttons), failure);
}

/** A part of the arguments that others may have written: which, where it came from, and the part itself. */
function foreign(span) {
  const from = span.from.map(origin).join(", ");
  const cut = [...span.excerpt].length < span.end - span.start;
  return element("li", {},
    element("p", {}, exact(`${span.at}, characters ${span.start} to ${span.end}${from && `, from ${from}`} (${span.labels.trust}: ${span.labels.sources.join(", ")})`)),
    element("pre", { tabindex: 0 }, exact(span.excerpt), cut && "…"));
}

function origin({ step, source, tool, file, memory }) {
  const place = file !== undefined ? `the ${source === "web" ? "address" : "file"} “${file}”`
    : memory !== undefined ? `the memory ${memory}`
    : source === "file" ? "files of the workspace" : source === "tool" ? "a tool's result" : "the earlier conversation";
  return step === undefined ? place : `${place} (step ${step}${tool === undefined ? "" : `, ${tool}`})`;
}

/** A word of a command, quoted where a shell would need it, so that it shows where each word ends. */
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** Each argument by name; a text as it is (code keeps its lines), anything else as JSON. */
function argumentList(values) {
  if (typeof values !== "object" || values === null || Array.isArray(values)) return element("pre", { tabindex: 0 }, exact(JSON.stringify(values, null, 2)));
  return element("dl", {}, Object.entries(values).map(([name, value]) => [
    element("dt", {}, exact(name)),
    element("dd", {}, element("pre", { tabindex: 0 }, exact(typeof value === "string" ? value : JSON.stringify(value, null, 2)))),
  ]));
}
