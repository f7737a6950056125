// Puts the page together.

import { call } from "./api.js";
import { Chat } from "./chat.js";
import { element, visible } from "./element.js";
import { Fleet } from "./fleet.js";
import { Graph } from "./graph.js";
import { Recall } from "./recall.js";

const $ = (id) => document.getElementById(id);

const graph = new Graph({ graph: $("graph"), step: $("step"), approvals: $("approvals") });
const chat = new Chat({
  messages: $("messages"), form: $("ask"), input: $("input"), send: $("send"), cancel: $("cancel"), connection: $("connection"), graph,
});
const fleet = new Fleet($("nodes"));
new Recall({ form: $("recall"), query: $("query"), hits: $("hits") });

const panels = ["graph", "fleet", "memory", "tasks"];

function select(chosen) {
  for (const name of panels) {
    $(`tab-${name}`).setAttribute("aria-selected", String(name === chosen));
    $(`panel-${name}`).hidden = name !== chosen;
  }
  if (chosen === "fleet") fleet.start(); else fleet.stop();
  if (chosen === "tasks") listTasks();
}

async function listTasks() {
  try {
    const page = await call("GET", "/v1/tasks?limit=50");
    $("tasks").replaceChildren(...page.items.map((task) => element("li", {},
      element("button", { type: "button", class: `task ${task.status}`, onclick: () => { select("graph"); chat.open(task.id); } },
        visible(task.input), element("span", { class: "quiet" }, ` ${task.status}, ${new Date(task.created_at).toLocaleString()}`)))));
  } catch (error) {
    $("tasks").replaceChildren(element("li", { class: "error" }, error.message));
  }
}

for (const name of panels) $(`tab-${name}`).addEventListener("click", () => select(name));
$("new-conversation").addEventListener("click", () => chat.startOver());

const last = sessionStorage.getItem("task");
if (last) chat.open(last).catch(() => sessionStorage.removeItem("task"));
