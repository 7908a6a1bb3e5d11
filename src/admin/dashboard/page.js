// The page: what of an event goes where.

import { Chart } from "./chart.js";
import * as clients from "./clients.js";
import { byId, element, say } from "./dom.js";
import { Hop } from "./exchange.js";
import { NOTHING, bytes, bytesParts, count, duration, perSecond, rate, time } from "./format.js";
import { watch } from "./live.js";

const IN = ["messages_in_qos0", "messages_in_qos1", "messages_in_qos2"];
const OUT = ["messages_out_qos0", "messages_out_qos1", "messages_out_qos2"];
const HOP_IN = ["messages_in_qos2", "pubrec_out", "pubrel_in", "pubcomp_out"];
const HOP_OUT = ["messages_out_qos2", "pubrec_in", "pubrel_out", "pubcomp_in"];

/** The sum of some rates; nothing where none are known yet. */
const sum = (scope, names) => (scope?.per_second ? names.reduce((all, name) => all + scope.per_second[name], 0) : null);

const TILES = [
  ["Messages in", ({ total }) => [rate(sum(total, IN)), "/s"], ({ total }) => byQos(total, IN)],
  ["Messages out", ({ total }) => [rate(sum(total, OUT)), "/s"], ({ total }) => byQos(total, OUT)],
  ["Received", ({ total }) => withSecond(bytesParts(total.per_second?.bytes_in)), ({ total }) => `sent ${bytes(total.per_second?.bytes_out)}/s`],
  ["Clients connected", ({ total }) => [count(total.sessions_connected), ""], ({ connections_max }) => `of ${count(connections_max)} at most`],
  ["Sessions away", ({ total }) => [count(total.sessions_away), ""], ({ total }) => `${count(total.subscriptions)} subscriptions`],
  ["Queued", ({ total }) => [count(total.queued_messages), "messages"], ({ total }) => bytes(total.queued_bytes)],
  ["Retained", ({ total }) => [count(total.retained_messages), "topics"], ({ total }) => `${perSecond(total.per_second?.connects)} connects`],
  ["Dropped", ({ total }) => [rate(total.per_second?.dropped), "/s"], ({ total }) => `${perSecond(total.per_second?.duplicates_suppressed)} duplicates`],
];

function byQos(total, names) {
  const [atMostOnce, atLeastOnce, exactlyOnce] = names.map((name) => rate(total.per_second?.[name]));
  // Lines end between the three only.
  return [`QoS 2: ${exactlyOnce},`, `1: ${atLeastOnce},`, `0: ${atMostOnce}`].map((part) => part.replaceAll(" ", "\u00a0")).join(" ");
}

function withSecond([number, unit]) {
  return [number, unit && `${unit}/s`];
}

const tiles = TILES.map(([name, value, more]) => {
  const parts = { value: element("span"), unit: element("span", { class: "unit" }), more: element("div", { class: "more" }) };
  byId("tiles").append(
    element("div", { class: "tile" }, element("div", { class: "name" }, name), element("div", { class: "value" }, parts.value, parts.unit), parts.more),
  );
  return (event) => {
    const [number, unit] = value(event);
    say(parts.value, number);
    say(parts.unit, unit);
    say(parts.more, more(event));
  };
});

const hopIn = new Hop(byId("hop-in"), "Publishers to the broker", ["publishers", "OnceMQ"], true, [[1, "await PUBREL"]]);
const hopOut = new Hop(byId("hop-out"), "Broker to the subscribers", ["OnceMQ", "subscribers"], false, [
  [0, "await PUBREC"],
  [2, "await PUBCOMP"],
]);

const messagesIn = new Chart(byId("chart-in"), "Messages in", perSecond);
const messagesOut = new Chart(byId("chart-out"), "Messages out", perSecond);
const latency = new Chart(byId("chart-latency"), "Latency through the broker", time);
const commits = new Chart(byId("chart-commit"), "Commits of the log", time);

function show(event) {
  showState(event);
  tiles.forEach((tile) => tile(event));
  const { total, shards } = event;
  hopIn.show(total.per_second && HOP_IN.map((name) => total.per_second[name]), [total.in_awaiting_pubrel]);
  hopOut.show(total.per_second && HOP_OUT.map((name) => total.per_second[name]), [total.out_awaiting_pubrec, total.out_awaiting_pubcomp]);
  const ofShards = (names) => shards.map((shard, number) => [`shard ${number}`, sum(shard, names)]);
  messagesIn.add(event.time, ofShards(IN));
  messagesOut.add(event.time, ofShards(OUT));
  latency.add(event.time, percentiles(total.latency_seconds));
  commits.add(event.time, percentiles(total.commit_seconds));
  showShards(event);
  showLog(event);
  showDrops(event);
}

function percentiles(times) {
  return [["p50", times?.p50 ?? null], ["p90", times?.p90 ?? null], ["p99", times?.p99 ?? null]];
}

function showState({ state, version, uptime_seconds }) {
  const kind = state === "ready" ? "good" : state === "recovering" || state === "draining" ? "warn" : "bad";
  byId("state").className = `state ${kind}`;
  say(byId("state-text"), state);
  say(byId("version"), version);
  say(byId("uptime"), duration(uptime_seconds));
  document.title = state === "ready" ? "OnceMQ" : `${state} – OnceMQ`;
}

function showShards({ total, shards }) {
  const rows = shards.map((shard, number) => cells(String(number), shard));
  if (shards.length > 1) rows.push(cells("all", total));
  const table = byId("shards");
  while (table.rows.length > rows.length) table.deleteRow(-1);
  rows.forEach((texts, index) => {
    const row = table.rows[index] ?? table.insertRow();
    row.classList.toggle("total", shards.length > 1 && index === rows.length - 1);
    texts.forEach((text, column) => say(row.cells[column] ?? row.insertCell(), text));
    const log = row.cells[texts.length - 1];
    log.className = { ok: "good", "": "", off: "quiet", [NOTHING]: "" }[log.textContent] ?? "bad";
  });
}

function cells(name, shard) {
  if (!shard) return [name, "no answer", ...Array(7).fill(NOTHING)];
  return [
    name,
    perSecond(sum(shard, IN)),
    perSecond(sum(shard, OUT)),
    `${bytes(shard.per_second?.bytes_in)}${shard.per_second ? "/s" : ""}`,
    `${bytes(shard.per_second?.bytes_out)}${shard.per_second ? "/s" : ""}`,
    count(shard.sessions_connected),
    count(shard.queued_messages),
    time(shard.turn_seconds?.p99),
    (shard.log ?? "").replace("_", " "),
  ];
}

function showLog({ total }) {
  const facts = [
    ["commits", perSecond(total.per_second?.commits)],
    ["records", perSecond(total.per_second?.log_records)],
    ["written", `${bytes(total.per_second?.log_bytes)}/s`],
    ["length", bytes(total.log_segment_bytes)],
    ["letters between shards", count(total.letters_waiting)],
  ];
  const list = byId("log-facts");
  facts.forEach(([name, value], index) => {
    if (!list.children[index]) list.append(element("div", {}, element("dt", {}, name), element("dd")));
    say(list.children[index].lastChild, value);
  });
}

let dropsBefore = null;

function showDrops({ total, interval_seconds }) {
  const now = Object.entries(total.dropped).filter(([, number]) => number > 0);
  byId("no-drops").hidden = now.length > 0;
  byId("drops-table").hidden = now.length === 0;
  const isKnown = dropsBefore !== null && interval_seconds > 0;
  const moved = (reason, number) => (isKnown ? Math.max(number - (dropsBefore[reason] ?? 0), 0) / interval_seconds : null);
  const rows = now.map(([reason, number]) =>
    element(
      "tr",
      {},
      element("td", {}, reason.replaceAll("_", " ")),
      element("td", {}, perSecond(moved(reason, number))),
      element("td", {}, count(number)),
    ),
  );
  byId("drops").replaceChildren(...rows);
  dropsBefore = total.dropped;
}

function showTrouble(text) {
  const trouble = byId("trouble");
  trouble.hidden = text === null;
  say(trouble, text ?? "");
  if (text !== null) {
    byId("state").className = "state bad";
    say(byId("state-text"), "not connected");
  }
}

clients.begin();
watch(show, showTrouble);
