// A search of memory: what was found, how, and where it came from; and forgetting it. Without words: the newest.

import { call } from "./api.js";
import { element, moment, prose } from "./element.js";

const MOST_HITS = 20;

export class Recall {
  constructor({ form, query, hits }) {
    Object.assign(this, { form, query, hits });
    this.asked = null;
    form.addEventListener("submit", (event) => { event.preventDefault(); this.search(); });
  }

  /** Looks for what the field says; an answer to an earlier question is not shown over a later one. */
  async search() {
    const asked = {};
    this.asked = asked;
    let shown;
    try {
      const query = this.query.value.trim();
      shown = query ? await this.found(query) : await this.newest();
    } catch (error) {
      shown = [element("p", { class: "error" }, prose(error.message))];
    }
    if (this.asked === asked) this.hits.replaceChildren(...shown);
  }

  async found(query) {
    const reply = await call("POST", "/v1/memories/search", { query, limit: MOST_HITS });
    const notes = (reply.degraded ?? []).map((reason) => element("p", { class: "degraded" }, prose(reason)));
    const why = ({ score, signals }) => `; score ${score.toFixed(2)} (${signals.map((one) => `${one.signal} ${one.contribution.toFixed(2)}`).join(", ")})`;
    return [...notes, ...or(reply.hits.map((hit) => this.card(hit.memory, why(hit))), "Nothing was found.")];
  }

  async newest() {
    const page = await call("GET", `/v1/memories?limit=${MOST_HITS}`);
    return or(page.items.map((memory) => this.card(memory, "")), "Nothing is remembered yet.");
  }

  card(memory, why) {
    const card = element("article", { class: "hit", "data-memory": memory.id },
      element("p", { dir: "auto" }, prose(memory.text)),
      element("p", { class: "quiet" }, `${memory.kind}, from ${memory.source.origin}, ${moment(memory.occurred_at)}${memory.superseded_by ? "; superseded" : ""}${why}`),
      element("button", { type: "button", class: "deny", onclick: () => this.forget(memory, card) }, "Forget"));
    return card;
  }

  async forget(memory, card) {
    if (!confirm("Forget this for good?")) return;
    card.querySelector(".error")?.remove();
    try {
      await call("DELETE", `/v1/memories/${memory.id}`);
      // Focus goes to the next one, or it would fall back to the top of the page.
      (card.nextElementSibling?.querySelector("button") ?? this.query).focus();
      card.remove();
    } catch (error) {
      card.append(element("p", { class: "error", role: "alert" }, prose(error.message)));
    }
  }
}

function or(cards, message) {
  return cards.length ? cards : [element("p", { class: "quiet" }, message)];
}
