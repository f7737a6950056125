// Puts the page together.

import { Approvals } from "./approvals.js";
import { Chat } from "./chat.js";
import { Fleet } from "./fleet.js";
import { Graph } from "./graph.js";
import { Recall } from "./recall.js";
import { tabs } from "./tabs.js";
import { Tasks } from "./tasks.js";

const $ = (id) => document.getElementById(id);

const fleet = new Fleet($("nodes"));
const recall = new Recall({ form: $("recall"), query: $("query"), hits: $("hits") });
const tasks = new Tasks($("tasks"), (id) => open(id));

const select = tabs(["graph", "fleet", "memory", "tasks"], (chosen) => {
  if (chosen === "fleet") fleet.start(); else fleet.stop();
  if (chosen === "memory") recall.search();
  if (chosen === "tasks") tasks.list();
});

const chat = new Chat({
  messages: $("messages"), form: $("ask"), input: $("input"), send: $("send"), cancel: $("cancel"), connection: $("connection"),
  graph: new Graph({ graph: $("graph"), step: $("step") }), approvals: new Approvals($("approvals")), select,
});

async function open(id) {
  try {
    await chat.open(id);
    $("connection").textContent = "";
    select("graph");
    $("tab-graph").focus();
  } catch (error) {
    $("connection").textContent = error.message;
  }
}

$("new-conversation").addEventListener("click", () => { chat.startOver(); $("input").focus(); });

chat.restore();
