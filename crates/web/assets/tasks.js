// Earlier tasks, newest first.

import { call } from "./api.js";
import { element, moment, prose } from "./element.js";

export class Tasks {
  /** `open(id)` shows a task. */
  constructor(target, open) {
    this.target = target;
    this.open = open;
  }

  /** The newest tasks, or with a cursor the ones that follow. */
  async list(cursor) {
    let shown;
    try {
      const page = await call("GET", `/v1/tasks?limit=50${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
      shown = page.items.map((task) => this.line(task));
      if (page.next_cursor) shown.push(element("li", { class: "more" }, element("button", { type: "button", onclick: () => this.list(page.next_cursor) }, "Earlier tasks")));
      if (!shown.length && !cursor) shown.push(element("li", { class: "quiet" }, "Nothing has been asked yet."));
    } catch (error) {
      shown = [element("li", { class: "error" }, prose(error.message))];
    }
    if (!cursor) this.target.replaceChildren();
    this.target.querySelector(".more")?.remove();
    this.target.append(...shown);
  }

  line(task) {
    return element("li", {}, element("button", { type: "button", class: "task", "data-task": task.id, onclick: () => this.open(task.id) },
      element("span", { dir: "auto" }, prose(task.input)), element("span", { class: "quiet" }, `${task.status.replaceAll("_", " ")}, ${moment(task.created_at)}`)));
  }
}
