// The conversation: asks, shows the answer as it is written, and takes everything up again after a reload.

import { call, follow } from "./api.js";
import { element, prose } from "./element.js";
import { Writing } from "./writing.js";

const REMEMBERED_TURNS = 50;
const BETWEEN_REFRESHES_MS = 120;

export class Chat {
  /** `select(panel)` brings a panel to the front; `graph` and `approvals` show the task. */
  constructor({ messages, form, input, send, cancel, connection, graph, approvals, select }) {
    Object.assign(this, { messages, form, input, send, cancel, connection, graph, approvals, select });
    this.session = sessionStorage.getItem("session") ?? this.renew();
    this.turns = JSON.parse(sessionStorage.getItem("turns") ?? "[]");
    this.live = null;
    this.unsent = null;
    // For each task, which step called for which: the records alone tell it.
    this.causes = new Map();
    form.addEventListener("submit", (event) => { event.preventDefault(); this.ask(); });
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); this.ask(); }
    });
    cancel.addEventListener("click", () => this.abort());
    // The text is followed as it grows, unless the person has scrolled up to read.
    this.following = true;
    messages.addEventListener("scroll", () => {
      this.following = messages.scrollTop + messages.clientHeight >= messages.scrollHeight - 80;
    });
    new ResizeObserver(() => this.scroll()).observe(messages);
  }

  renew(session = uuid()) {
    this.session = session;
    sessionStorage.setItem("session", session);
    return session;
  }

  startOver(session) {
    this.stop?.();
    this.stop = null;
    // Whatever is still on its way belongs to a conversation that is no longer shown.
    this.live = null;
    this.busy(null);
    this.renew(session);
    this.keep([]);
    this.messages.replaceChildren();
    this.graph.clear();
    this.causes.clear();
    this.shown = null;
    this.approvals.clear();
    this.connection.textContent = "";
  }

  keep(turns) {
    this.turns = turns.slice(-REMEMBERED_TURNS);
    sessionStorage.setItem("turns", JSON.stringify(this.turns));
  }

  async ask() {
    const input = this.input.value.trim();
    if (!input || this.live) return;
    const live = { id: null };
    this.live = live;
    const turn = this.add(input);
    this.input.value = "";
    this.busy(live);
    // The same words sent again after a lost answer are the same request.
    if (this.unsent?.input !== input || this.unsent.session !== this.session) this.unsent = { input, session: this.session, key: uuid() };
    try {
      const task = await call("POST", "/v1/tasks", { input, session: this.session }, { "Idempotency-Key": this.unsent.key });
      this.unsent = null;
      if (this.live !== live) return;
      this.keep([...this.turns, task.id]);
      this.attach(live, task.id, turn);
    } catch (error) {
      if (this.live !== live) return;
      this.live = null;
      this.busy(null);
      this.input.value ||= input;
      fail(turn, error.message);
    }
  }

  /** Shows a task of this or an earlier visit, as a conversation of its own. */
  async open(id) {
    const task = await call("GET", `/v1/tasks/${id}`);
    this.startOver(task.session);
    this.keep([id]);
    this.take(task);
  }

  /** Shows the conversation that this browser tab was in. */
  async restore() {
    const turns = this.turns;
    // A person who asks before all is there goes on without the rest.
    const overtaken = () => this.live || this.turns !== turns;
    try {
      const tasks = await Promise.all(turns.map((id) => call("GET", `/v1/tasks/${id}`).catch((error) => {
        if (error.status === 404) return null;
        throw error;
      })));
      if (overtaken()) return;
      const found = tasks.filter(Boolean);
      this.keep(found.map((task) => task.id));
      for (const task of found) this.take(task, task === found.at(-1));
    } catch (error) {
      if (!overtaken()) this.connection.textContent = error.message;
    }
  }

  take(task, last = true) {
    const turn = this.add(task.input);
    if (isFinal(task)) {
      this.bind(turn, task.id);
      this.conclude(turn, task);
      if (last) this.reveal(task);
    } else {
      this.live = { id: null };
      this.attach(this.live, task.id, turn);
    }
  }

  attach(live, id, turn) {
    live.id = id;
    this.bind(turn, id);
    this.busy(live);
    this.shown = id;
    const current = () => this.live === live;
    const refresh = sequential(async () => {
      if (!current()) return;
      try {
        const task = await call("GET", `/v1/tasks/${id}`);
        if (current()) this.show(task);
      } catch (error) {
        if (current()) this.connection.textContent = error.message;
      }
    });
    refresh();
    this.stop = follow(id, {
      record: (record) => { this.learn(record); refresh(); },
      delta: (delta) => turn.writing.put(delta.offset, delta.text),
      end: () => this.finish(live, id, turn),
      broken: () => { this.connection.textContent = "The connection broke; reconnecting…"; },
      restored: () => { this.connection.textContent = ""; refresh(); },
      gone: (error) => {
        if (!current()) return;
        this.live = null;
        this.busy(null);
        this.connection.textContent = "";
        fail(turn, error.message);
      },
    });
  }

  async finish(live, id, turn) {
    let task;
    try {
      task = await call("GET", `/v1/tasks/${id}`);
    } catch (error) {
      if (this.live === live) fail(turn, error.message);
    }
    if (this.live !== live) return;
    this.live = null;
    this.stop = null;
    this.busy(null);
    this.connection.textContent = "";
    if (!task) return;
    this.conclude(turn, task);
    this.show(task);
  }

  conclude(turn, task) {
    if (task.answer) turn.writing.show(task.answer);
    if (task.status === "cancelled") turn.notes.append(element("p", { class: "quiet" }, "Stopped."));
    if (task.status === "failed") fail(turn, [task.error?.detail, task.error?.next_step].filter(Boolean).join(" ") || "The task failed.");
    settle(turn, task.status);
    this.scroll();
  }

  learn({ task, event }) {
    const causes = this.causes.get(task) ?? new Map();
    this.causes.set(task, causes);
    if (this.causes.size > REMEMBERED_TURNS) this.causes.delete(this.causes.keys().next().value);
    if (event.type === "steps_added" && event.cause) for (const step of event.steps) causes.set(step.id, event.cause);
  }

  /** Shows the steps of a task that may have ended long ago; its records are read once more for what called for what. */
  reveal(task) {
    this.shown = task.id;
    const known = this.causes.has(task.id);
    this.show(task);
    if (known || !isFinal(task)) return;
    const stop = follow(task.id, {
      record: (record) => this.learn(record), delta: () => {}, end: () => this.show(task), broken: () => stop(), restored: () => {}, gone: () => {},
    });
  }

  show(task) {
    if (this.shown === task.id) this.graph.show(task, this.causes.get(task.id) ?? new Map());
    if (!this.live || this.live.id === task.id) this.approvals.show(task);
  }

  async abort() {
    try {
      await call("POST", `/v1/tasks/${this.live.id}/cancel`);
    } catch (error) {
      this.connection.textContent = error.message;
    }
  }

  busy(live) {
    this.send.disabled = Boolean(live);
    this.cancel.hidden = !live?.id;
  }

  /** A request, and below it the place for its answer. */
  add(input) {
    const text = element("div", { class: "text" });
    const notes = element("div", { class: "notes" });
    const reply = element("li", { class: "kamil", "aria-busy": "true", "data-status": "waiting" }, element("span", { class: "hidden" }, "Kamil: "), text, notes);
    this.messages.append(element("li", { class: "person" }, element("span", { class: "hidden" }, "You: "), element("div", { class: "text", dir: "auto" }, prose(input))), reply);
    this.following = true;
    this.scroll();
    const writing = new Writing(text, () => this.scroll());
    return { reply, notes, writing };
  }

  bind(turn, id) {
    turn.reply.setAttribute("data-task", id);
    turn.reply.append(element("button", { type: "button", class: "steps", onclick: () => this.inspect(id) }, "Steps"));
  }

  /** Brings the steps of one turn to the front. */
  async inspect(id) {
    this.shown = id;
    this.select("graph");
    try {
      const task = await call("GET", `/v1/tasks/${id}`);
      if (this.shown === id) this.reveal(task);
    } catch (error) {
      this.connection.textContent = error.message;
    }
  }

  scroll() {
    if (this.following) this.messages.scrollTop = this.messages.scrollHeight;
  }
}

function isFinal(task) {
  return ["succeeded", "failed", "cancelled"].includes(task.status);
}

function settle(turn, status) {
  turn.reply.removeAttribute("aria-busy");
  turn.reply.setAttribute("data-status", status);
}

function fail(turn, message) {
  settle(turn, "failed");
  turn.notes.append(element("p", { class: "error", role: "alert" }, prose(message)));
}

/** Runs an action again after calls that came while it ran or shortly before; never twice at a time, never out of order. */
function sequential(action) {
  let timer = null;
  let running = false;
  let again = false;
  const run = async () => {
    timer = null;
    running = true;
    await action();
    running = false;
    if (again) { again = false; timer = setTimeout(run, BETWEEN_REFRESHES_MS); }
  };
  return () => {
    if (running) again = true;
    else timer ??= setTimeout(run, BETWEEN_REFRESHES_MS);
  };
}

// Pages that are on neither a loopback nor an encrypted address have no crypto.randomUUID.
function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const random = crypto.getRandomValues(new Uint8Array(16));
  random[6] = (random[6] & 0x0f) | 0x40;
  random[8] = (random[8] & 0x3f) | 0x80;
  const hex = Array.from(random, (value) => value.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
