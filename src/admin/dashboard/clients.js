// Clients: found by a part of their ids, looked at one by one, and disconnected by who means it.

import { byId, element, say } from "./dom.js";
import { NOTHING, bytes, count, date } from "./format.js";
import { ask } from "./live.js";

const PAGE = 50;

let shown = { query: "", next: null };
/** Whose detail is open. */
let chosen = null;
/** The button has been pressed once. */
let isSure = false;

export function begin() {
  byId("search").onsubmit = (event) => {
    event.preventDefault();
    search(byId("query").value);
  };
  byId("more").onclick = () => page(shown.query, shown.next);
  byId("close").onclick = () => byId("client").close();
  byId("disconnect").onclick = disconnect;
}

async function search(query) {
  byId("clients").replaceChildren();
  await page(query, null);
}

async function page(query, after) {
  const wanted = new URLSearchParams({ limit: PAGE, q: query });
  if (after) wanted.set("after", after);
  const found = await answer(`/api/v1/clients?${wanted}`);
  if (found.error) return say(byId("found"), `Not found out: ${found.error}.`);
  shown = { query, next: found.next };
  const rows = byId("clients");
  rows.append(...found.clients.map(row));
  byId("clients-panel").hidden = rows.children.length === 0;
  byId("more").hidden = !found.next;
  const number = rows.children.length;
  const are = number === 1 ? "1 client" : `${count(number)} clients`;
  // A page may be short, or empty, before the last.
  say(byId("found"), number === 0 && !found.next ? "No such client." : `${are}${found.next ? ", and perhaps more" : ""}.`);
}

function row(client) {
  const open = element("button", { type: "button", class: "link", title: client.id }, client.id || "(empty)");
  open.onclick = () => look(client.id);
  const inflight = client.inflight_in + client.inflight_out;
  return element(
    "tr",
    {},
    element("td", { class: "id" }, open),
    element("td", { class: client.connection ? "good" : "quiet" }, client.connection ? "connected" : "away"),
    element("td", {}, count(client.subscriptions)),
    element("td", {}, count(client.queued_messages)),
    element("td", {}, count(inflight)),
  );
}

async function look(id) {
  const client = await answer(`/api/v1/sessions/${encodeURIComponent(id)}`);
  chosen = id;
  isSure = false;
  say(byId("client-title"), id);
  say(byId("client-note"), client.error ? `Not found out: ${client.error}.` : "");
  byId("client-facts").replaceChildren(...(client.error ? [] : facts(client)));
  byId("client-subscriptions").replaceChildren(...(client.error ? [] : [filters(client)]));
  const button = byId("disconnect");
  button.hidden = !client.connection;
  say(button, "Disconnect…");
  const dialog = byId("client");
  if (!dialog.open) dialog.showModal();
}

function facts(client) {
  const { connection } = client;
  const rows = [
    ["state", connection ? `connected since ${date(connection.since)}` : `away since ${date(client.away_since)}`],
    ["address", connection?.address ?? NOTHING],
    ["user", connection?.user ?? NOTHING],
    ["protocol", connection ? `MQTT ${connection.version}` : NOTHING],
    ["keep-alive", connection ? `${connection.keep_alive_seconds} s` : NOTHING],
    ["shard", String(client.shard)],
    ["session", client.durable ? "outlives the broker" : "ends with the broker at the latest"],
    ["subscriptions", count(client.subscriptions)],
    ["queued", `${count(client.queued_messages)} messages, ${bytes(client.queued_bytes)}`],
    ["in flight", `${count(client.inflight_in)} from it, ${count(client.inflight_out)} to it`],
  ];
  return rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
}

function filters(client) {
  const list = element("ul", { class: "filters", "aria-label": "Subscriptions" });
  list.append(
    ...client.filters.map(({ filter, qos }) =>
      element("li", {}, element("span", {}, filter), element("span", { class: "quiet" }, `QoS ${qos}`)),
    ),
  );
  const missing = client.subscriptions - client.filters.length;
  if (missing > 0) list.append(element("li", {}, element("span", { class: "quiet" }, `and ${count(missing)} more`)));
  return list;
}

async function disconnect() {
  const button = byId("disconnect");
  if (!isSure) {
    isSure = true;
    say(button, "Yes, disconnect it");
    say(byId("client-note"), "Its will is published if it has one, and it may connect again.");
    return;
  }
  const done = await answer(`/api/v1/clients/${encodeURIComponent(chosen)}`, { method: "DELETE" });
  // Its session may have ended with the connection, so that there is nothing to look at any more.
  button.hidden = !done.error;
  say(byId("client-note"), done.error ? `Not disconnected: ${done.error}.` : "Disconnected.");
}

async function answer(path, options) {
  try {
    const response = await ask(path, options);
    return await response.json();
  } catch {
    return { error: "the broker cannot be reached" };
  }
}
