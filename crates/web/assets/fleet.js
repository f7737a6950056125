// The nodes: what they run on, how busy they are, what they offer.

import { call } from "./api.js";
import { bytes, element, moment, prose } from "./element.js";

const BETWEEN_LOOKS_MS = 2000;
const MOST_NODES = 200;

/** Shows the nodes, again every two seconds while the panel is seen. */
export class Fleet {
  constructor(target) {
    this.target = target;
    this.watch = null;
  }

  start() {
    this.stop();
    const watch = { timer: null };
    this.watch = watch;
    const look = async () => {
      if (!document.hidden) await this.refresh(watch);
      if (this.watch === watch) watch.timer = setTimeout(look, BETWEEN_LOOKS_MS);
    };
    look();
  }

  stop() {
    clearTimeout(this.watch?.timer);
    this.watch = null;
  }

  async refresh(watch) {
    let shown;
    try {
      const page = await call("GET", `/v1/nodes?limit=${MOST_NODES}`);
      shown = page.items.map(card);
      if (!shown.length) shown.push(element("p", { class: "quiet" }, "No node has registered yet."));
      if (page.next_cursor) shown.push(element("p", { class: "quiet" }, `There are more; these are the first ${MOST_NODES}.`));
    } catch (error) {
      shown = [element("p", { class: "error" }, prose(error.message))];
    }
    if (this.watch === watch) this.target.replaceChildren(...shown);
  }
}

function card(node) {
  const { hardware, load, capabilities } = node;
  const used = Math.max(hardware.ram_total_bytes - load.ram_available_bytes, 0);
  const machine = [
    hardware.cpu_model, `${hardware.physical_cores} cores (${hardware.logical_cores} threads)`, hardware.platform,
    hardware.power === "battery" ? "on battery" : null, hardware.from_profile ? "from a profile file" : null, node.url,
  ].filter(Boolean).join(", ");
  return element("article", { class: `node ${node.status}`, "data-role": node.role, "data-node": node.id },
    element("h2", {}, prose(node.name), element("span", { class: "badge" }, node.role), element("span", { class: `badge ${node.status}` }, node.status)),
    element("p", { class: "quiet" }, prose(machine)),
    node.status === "alive" ? gauges(hardware, load, used) : element("p", {}, `Last heard of ${moment(node.last_seen_at)}`),
    (capabilities.models ?? []).map((model) => element("p", { class: "offer" }, prose(offer(model)))),
    capabilities.tools?.length ? element("p", { class: "offer" }, prose(capabilities.tools.map((tool) => tool.name).join(", "))) : null,
    capabilities.memory ? element("p", { class: "offer" }, prose(`${capabilities.memory.memories} memories; ${capabilities.memory.embedder ?? "no embedding model"}`)) : null);
}

function gauges(hardware, load, used) {
  return [
    gauge("Processor", load.cpu, `${Math.round(load.cpu * 100)} %`),
    gauge("Memory", hardware.ram_total_bytes ? used / hardware.ram_total_bytes : 0, `${bytes(used)} of ${bytes(hardware.ram_total_bytes)}`),
    ...(hardware.accelerators ?? []).map((one) => gauge(`${one.name} (${one.kind})`,
      one.vram_total_bytes ? 1 - one.vram_available_bytes / one.vram_total_bytes : 0,
      `${bytes(one.vram_available_bytes)} of ${bytes(one.vram_total_bytes)} free${one.utilization === undefined ? "" : `, ${Math.round(one.utilization * 100)} % busy`}`)),
    element("p", { class: "work" }, `${load.running} running, ${load.queued} waiting`),
  ];
}

function offer(model) {
  const speed = model.decode_tokens_per_s
    ? `reads ${Math.round(model.prefill_tokens_per_s ?? 0)} and writes ${Math.round(model.decode_tokens_per_s)} tokens/s` : null;
  return `${model.name}: ${[model.specializations.join(", "), `${model.context_tokens} tokens of context`, speed, model.resident ? null : "not loaded"].filter(Boolean).join("; ")}`;
}

function gauge(name, share, text) {
  return element("label", { class: "gauge" }, element("span", {}, prose(name)),
    element("meter", { min: 0, max: 1, high: 0.9, value: Math.min(Math.max(share, 0), 1) }), element("span", { class: "quiet" }, text));
}
