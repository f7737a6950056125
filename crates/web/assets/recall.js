// A search of memory: what was found, how, and where it came from; and forgetting it.

import { call } from "./api.js";
import { element, visible } from "./element.js";

export class Recall {
  constructor({ form, query, hits }) {
    Object.assign(this, { form, query, hits });
    form.addEventListener("submit", (event) => { event.preventDefault(); this.search(); });
  }

  async search() {
    const query = this.query.value.trim();
    if (!query) return;
    try {
      const reply = await call("POST", "/v1/memories/search", { query, limit: 20 });
      const notes = (reply.degraded ?? []).map((reason) => element("p", { class: "degraded" }, visible(reason)));
      const found = reply.hits.map((hit) => this.hit(hit));
      if (!found.length) found.push(element("p", { class: "quiet" }, "Nothing was found."));
      this.hits.replaceChildren(...notes, ...found);
    } catch (error) {
      this.hits.replaceChildren(element("p", { class: "error" }, error.message));
    }
  }

  hit({ memory, score, signals }) {
    const card = element("article", { class: "hit", "data-memory": memory.id },
      element("p", {}, visible(memory.text)),
      element("p", { class: "quiet" }, `${memory.kind}, from ${memory.source.origin}, ${new Date(memory.occurred_at).toLocaleString()}; score ${score.toFixed(2)} (${
        signals.map((one) => `${one.signal} ${one.contribution.toFixed(2)}`).join(", ")})`),
      element("button", { type: "button", class: "deny", onclick: () => this.forget(memory, card) }, "Forget"));
    return card;
  }

  async forget(memory, card) {
    if (!confirm("Forget this for good?")) return;
    try {
      await call("DELETE", `/v1/memories/${memory.id}`);
      card.remove();
    } catch (error) {
      card.append(element("p", { class: "error" }, error.message));
    }
  }
}
