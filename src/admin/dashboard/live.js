// The stream of events, and the token that it may need: kept for this tab, and only ever sent as a header.

import { byId, say } from "./dom.js";

const KEY = "oncemq-token";
const PAUSES_SECONDS = [1, 2, 5, 10];

/** As fetch, with the token. */
export function ask(path, options = {}) {
  const token = sessionStorage.getItem(KEY);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  return fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
}

/** Calls `onEvent` with every event and `onTrouble` with a text, or null when it is over; never ends. */
export async function watch(onEvent, onTrouble) {
  for (let failures = 0; ; ) {
    let text;
    try {
      const response = await ask("/api/v1/live");
      if (response.status === 401) {
        await askForToken(sessionStorage.getItem(KEY) !== null);
        continue;
      }
      if (response.ok) {
        await read(response.body, (event) => {
          failures = 0;
          onTrouble(null);
          onEvent(event);
        });
        text = "The broker has ended the stream.";
      } else {
        text = `The broker says: ${(await response.json()).error}.`;
      }
    } catch {
      text = "The broker cannot be reached.";
    }
    const pause = PAUSES_SECONDS[Math.min(failures, PAUSES_SECONDS.length - 1)];
    failures += 1;
    onTrouble(`${text} Trying again …`);
    await new Promise((resolve) => setTimeout(resolve, pause * 1000));
  }
}

async function read(body, onEvent) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) onEvent(JSON.parse(event.slice("data: ".length)));
  }
}

/** Resolves when there is a token to try. */
function askForToken(isWrong) {
  sessionStorage.removeItem(KEY);
  const dialog = byId("token");
  const trouble = byId("token-trouble");
  trouble.hidden = !isWrong;
  say(trouble, isWrong ? "That is not the token." : "");
  byId("token-value").value = "";
  return new Promise((resolve) => {
    // Without the token there is nothing behind it to see.
    dialog.oncancel = (event) => event.preventDefault();
    byId("token-form").onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, byId("token-value").value.trim());
      dialog.close();
      resolve();
    };
    if (!dialog.open) dialog.showModal();
  });
}
