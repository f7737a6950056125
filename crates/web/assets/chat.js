// The conversation: asks, shows the answer as it is written, and can take a running answer up again after a reload.

import { call, follow } from "./api.js";
import { element } from "./element.js";
import { markdown } from "./markdown.js";

/** Puts `text` at `offset` (in Unicode scalar values), dropping what stood after it. */
export function splice(current, offset, text) {
  const characters = Array.from(current);
  return characters.slice(0, offset).join("") + text;
}

export class Chat {
  constructor({ messages, form, input, send, cancel, graph, connection }) {
    Object.assign(this, { messages, form, input, send, cancel, graph, connection });
    this.session = sessionStorage.getItem("session") ?? this.renew();
    this.stop = null;
    form.addEventListener("submit", (event) => { event.preventDefault(); this.ask(); });
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); this.ask(); }
    });
    cancel.addEventListener("click", () => this.abort());
  }

  renew() {
    const session = crypto.randomUUID?.() ?? uuid();
    sessionStorage.setItem("session", session);
    return session;
  }

  startOver() {
    this.stop?.();
    this.busy(null);
    this.session = this.renew();
    sessionStorage.removeItem("task");
    this.messages.replaceChildren();
    this.graph.clear();
    this.input.focus();
  }

  async ask() {
    const input = this.input.value.trim();
    if (!input || this.task) return;
    this.add("person", input);
    this.input.value = "";
    const reply = this.add("kamil", "");
    this.busy("pending");
    try {
      const key = crypto.randomUUID?.() ?? uuid();
      const task = await call("POST", "/v1/tasks", { input, session: this.session }, { "Idempotency-Key": key });
      this.attach(task.id, reply);
    } catch (error) {
      this.busy(null);
      fail(reply, error.message);
    }
  }

  /** Shows a task of this or an earlier visit. */
  async open(id) {
    this.stop?.();
    const task = await call("GET", `/v1/tasks/${id}`);
    this.messages.replaceChildren();
    this.add("person", task.input);
    this.attach(id, this.add("kamil", task.answer ?? ""));
  }

  attach(id, reply) {
    this.busy(id);
    sessionStorage.setItem("task", id);
    let text = "";
    const refresh = throttle(() => this.refresh(id), 120);
    refresh();
    this.stop = follow(id, {
      record: () => refresh(),
      delta: (delta) => {
        text = splice(text, delta.offset, delta.text);
        draw(reply, text);
        this.scroll();
      },
      end: () => this.finish(id, reply),
      broken: () => { this.connection.textContent = "The connection broke; reconnecting…"; },
      restored: () => { this.connection.textContent = ""; },
    });
  }

  async refresh(id) {
    try {
      this.graph.show(await call("GET", `/v1/tasks/${id}`));
    } catch (error) {
      this.connection.textContent = error.message;
    }
  }

  async finish(id, reply) {
    this.busy(null);
    try {
      const task = await call("GET", `/v1/tasks/${id}`);
      this.graph.show(task);
      if (task.answer) draw(reply, task.answer);
      if (task.status === "cancelled") reply.append(element("p", { class: "quiet" }, "Stopped."));
      if (task.status === "failed") fail(reply, [task.error?.detail, task.error?.next_step].filter(Boolean).join(" ") || "The task failed.");
      reply.setAttribute("data-status", task.status);
    } catch (error) {
      fail(reply, error.message);
    }
    this.scroll();
  }

  async abort() {
    if (!this.task || this.task === "pending") return;
    try {
      await call("POST", `/v1/tasks/${this.task}/cancel`);
    } catch (error) {
      this.connection.textContent = error.message;
    }
  }

  busy(task) {
    this.task = task;
    this.send.disabled = Boolean(task);
    this.cancel.hidden = !task;
  }

  add(who, text) {
    const body = element("div", { class: "body" });
    draw(body, text);
    this.messages.append(element("li", { class: who }, body));
    this.scroll();
    return body;
  }

  scroll() {
    this.messages.scrollTop = this.messages.scrollHeight;
  }
}

function draw(target, text) {
  target.replaceChildren(...(text ? markdown(text) : [element("p", { class: "quiet waiting" }, "…")]));
}

function fail(target, message) {
  target.append(element("p", { class: "error" }, message));
}

function throttle(action, interval) {
  let timer = null;
  return () => { timer ??= setTimeout(() => { timer = null; action(); }, interval); };
}

// Pages that are not on a loopback or encrypted address have no crypto.randomUUID.
function uuid() {
  const random = crypto.getRandomValues(new Uint8Array(16));
  random[6] = (random[6] & 0x0f) | 0x40;
  random[8] = (random[8] & 0x3f) | 0x80;
  const hex = Array.from(random, (value) => value.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
