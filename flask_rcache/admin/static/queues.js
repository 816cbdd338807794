// The queues of writes behind: what waits, who applies it, what is tried again and what was given up.

import { $, el, follow, setAttribute, setLong, setText } from "./dom.js";
import { NONE, count, plural, seconds } from "./format.js";

const LATE = 60;
// Seconds without a consumer that are no cause for alarm: one is being restarted.
const RESTART = 5;

/** Show the card, in an app that writes behind. */
export function queues({ queues: all = [] }) {
  $("queues-card").hidden = !all.length;
  follow($("queues"), all, (queue) => queue.name, newRow, showRow);
  const held = all.flatMap((queue) => queue.retried.map((write) => ({ ...write, queue: queue.name })));
  const dead = all.flatMap((queue) => queue.dead_letters.map((write) => ({ ...write, queue: queue.name })));
  const more = all.reduce((sum, queue) => sum + queue.dead, 0) - dead.length;
  troubles("held", held, (write) => `${plural(write.attempts, "try", "tries")} · ${write.queue}`);
  troubles("dead", dead, (write) => `${write.error} · ${plural(write.attempts, "try", "tries")} · ${write.queue}`);
  setText($("dead-more"), more > 0 ? `and ${count(more)} more` : "");
}

function newRow() {
  const number = (label) => el("td", { role: "cell", "data-label": label, class: "number" });
  return el("tr", { role: "row" },
    el("th", { role: "rowheader", scope: "row" }),
    el("td", { role: "cell", "data-label": "State", class: "state" }, el("span", { class: "dot", "aria-hidden": "true" }), " ", el("span")),
    number("Waiting"), number("Lag"), number("Taken"), number("Given up"));
}

function showRow(element, queue) {
  const [name, state, waiting, lag, taken, dead] = element.children;
  const [kind, words] = stateOf(queue);
  setAttribute(element, "data-state", kind);
  setLong(name, queue.name);
  setText(state.lastChild, words);
  setAttribute(state, "title", queue.consumers.join(", "));
  setText(waiting, count(queue.length));
  setText(lag, queue.length ? seconds(queue.lag) : NONE);
  setText(taken, count(queue.pending));
  setText(dead, count(queue.dead));
  dead.classList.toggle("late", queue.dead > 0);
}

function stateOf(queue) {
  if (queue.parts_away) return ["bad", "not known: its store is away"];
  if (!queue.has_writer) return ["warn", "no writer in this app"];
  if (!queue.has_consumer) return [queue.length ? "bad" : "warn", "no consumer"];
  if (queue.dead) return ["warn", "has dead letters"];
  if (queue.retried.length) return ["warn", "tries again"];
  if (queue.lag > LATE) return ["warn", "is behind"];
  return ["good", queue.length ? "applies" : "idle"];
}

function troubles(id, writes, says) {
  $(`${id}-part`).hidden = !writes.length;
  const item = () => el("li", {}, el("span", { class: "key" }), el("span", { class: "figure" }));
  follow($(id), writes.map((write, at) => ({ ...write, at })), (write) => `${write.queue} ${write.key} ${write.at}`, item, (row, write) => {
    setLong(row.firstChild, write.key);
    setLong(row.lastChild, says(write));
  });
}

/** The banners: what an operator has to do something about. */
export function queueWarnings({ queues: all = [] }) {
  const found = [];
  for (const queue of all) {
    if (queue.parts_away || !queue.has_writer) continue;
    if (!queue.has_consumer && queue.length && queue.lag > RESTART) {
      found.push({
        kind: "bad",
        title: `Nothing applies the writes of queue ${queue.name}`,
        text: `${plural(queue.length, "write waits", "writes wait")}, the first for ${seconds(queue.lag)}. Run flask cache writer.`,
      });
    }
    if (queue.dead) {
      found.push({
        kind: "warn",
        title: `${plural(queue.dead, "write")} of queue ${queue.name} given up`,
        text: "The source does not have what the app has accepted. flask cache writer --dead lists them, --retry sends "
          + "them again.",
      });
    }
  }
  return found;
}
