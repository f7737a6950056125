// The nodes: what they run on, how busy they are, what they offer.

import { call } from "./api.js";
import { bytes, element, visible } from "./element.js";

/** Shows the nodes, again every two seconds while the panel is seen. */
export class Fleet {
  constructor(target) {
    this.target = target;
    this.timer = null;
  }

  start() {
    this.stop();
    this.refresh();
    this.timer = setInterval(() => this.refresh(), 2000);
  }

  stop() {
    clearInterval(this.timer);
  }

  async refresh() {
    try {
      const page = await call("GET", "/v1/nodes?limit=200");
      this.target.replaceChildren(...page.items.map(card));
      if (!page.items.length) this.target.append(element("p", { class: "quiet" }, "No node has registered yet."));
    } catch (error) {
      this.target.replaceChildren(element("p", { class: "error" }, error.message));
    }
  }
}

function card(node) {
  const { hardware, load, capabilities } = node;
  const used = hardware.ram_total_bytes - load.ram_available_bytes;
  return element("article", { class: `node ${node.status}`, "data-role": node.role },
    element("h2", {}, visible(node.name), element("span", { class: "badge" }, node.role), element("span", { class: `badge ${node.status}` }, node.status)),
    element("p", { class: "quiet" }, visible(`${hardware.cpu_model}, ${hardware.physical_cores} cores (${hardware.logical_cores} threads), ${node.url}`)),
    gauge("Processor", load.cpu, `${Math.round(load.cpu * 100)} %`),
    gauge("Memory", hardware.ram_total_bytes ? used / hardware.ram_total_bytes : 0, `${bytes(used)} of ${bytes(hardware.ram_total_bytes)}`),
    (hardware.accelerators ?? []).map((one) => gauge(`${one.name} (${one.kind})`,
      one.vram_total_bytes ? 1 - one.vram_available_bytes / one.vram_total_bytes : 0, `${bytes(one.vram_available_bytes)} free`)),
    element("p", {}, `${load.running} running, ${load.queued} waiting`),
    (capabilities.models ?? []).map((model) => element("p", { class: "offer" },
      visible(`${model.name}: ${model.specializations.join(", ")}; ${model.context_tokens} tokens of context${speed(model)}${model.resident ? "" : "; not loaded"}`))),
    capabilities.tools?.length ? element("p", { class: "offer" }, visible(capabilities.tools.map((tool) => tool.name).join(", "))) : null,
    capabilities.memory ? element("p", { class: "offer" }, `${capabilities.memory.memories} memories; ${capabilities.memory.embedder ?? "no embedding model"}`) : null);
}

function speed(model) {
  if (!model.decode_tokens_per_s) return "";
  return `; reads ${Math.round(model.prefill_tokens_per_s ?? 0)}/s, writes ${Math.round(model.decode_tokens_per_s)}/s`;
}

function gauge(name, share, text) {
  return element("label", { class: "gauge" }, element("span", {}, visible(name)),
    element("meter", { min: 0, max: 1, high: 0.9, value: Math.min(Math.max(share, 0), 1) }), element("span", { class: "quiet" }, text));
}
