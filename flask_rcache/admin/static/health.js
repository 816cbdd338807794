// What works and what does not, in words: the banners at the top, and the state of each part.

import { el, follow, setAttribute, setText } from "./dom.js";
import { ago, bytes, count, lasting, plural, seconds } from "./format.js";
import { queueWarnings } from "./queues.js";
import { warningsOf } from "./servers.js";

const SERVERS = { redis: "Redis", valkey: "Valkey" };

const nameOf = (store) => SERVERS[store.server?.name] ?? "Redis";

/** The banners: what is wrong, and whose figures these are. */
export function notes(host, overview) {
  const { bus, journal, process, scope, store, topology } = overview;
  const found = [...warningsOf(overview), ...queueWarnings(overview)];
  if (!store.is_available && !isPartly(topology)) {
    const waiting = journal.pending ? `${plural(journal.pending, "is", "are")} waiting now.` : "None is waiting now.";
    found.push({
      kind: "bad",
      title: `${nameOf(store)} is unavailable`,
      text: "The app runs without it: each process loads for itself and keeps results for a moment. Invalidations take "
        + `effect in this process at once, and are journalled for the others until it is available again. ${waiting}`,
      cause: store.incident,
    });
  } else if (isDeaf(bus, topology)) {
    found.push({
      kind: "warn",
      title: "The bus is down",
      text: "This process receives no invalidations, so its memory tier is not used: without pub/sub, reads go to Redis.",
    });
  }
  for (const text of store.warnings) found.push({ kind: "warn", title: "Warning", text });
  if (scope === "process") {
    const away = "Those of all processes are in the store, and cannot be read now.";
    const why = store.kind === "memory" ? "Each process has a cache of its own." : away;
    found.push({ kind: "", title: `Figures of process ${process.pid} only`, text: why });
  }
  follow(host, found, (note) => note.title + note.text.slice(0, 20), newNote, (element, note) => {
    setAttribute(element, "class", `note ${note.kind}`);
    setText(element.children[0], note.title);
    setText(element.children[1], note.text);
    setText(element.children[2], note.cause ?? "");
  });
}

/** Whether some shards of a cluster are away, and not all. */
const isPartly = (topology) => topology?.kind === "cluster" && topology.shards.some((shard) => shard.is_available);

/** Whether invalidations do not arrive from where they could: a shard that is away sends none. */
function isDeaf(bus, topology) {
  if (topology?.kind !== "cluster") return bus?.state === "down";
  return topology.shards.some((shard) => shard.is_available && shard.bus === "down");
}

function newNote() {
  return el("p", {}, el("strong"), " ", el("span"), " ", el("code"));
}

/** The state of each part: good, warn, bad or off, and what there is to say. */
export function health(host, overview, now) {
  follow(host, parts(overview, now), (part) => part.name, newPart, (element, part) => {
    setAttribute(element, "data-state", part.state);
    const [, name, value, detail] = element.children;
    setText(name, part.name);
    setText(value, part.value);
    setText(detail, part.detail ?? "");
    const meter = element.querySelector("meter");
    meter.hidden = part.share === undefined;
    meter.value = part.share ?? 0;
  });
}

function newPart() {
  return el("li", {},
    el("span", { class: "dot", "aria-hidden": "true" }), el("span", { class: "name" }), el("span", { class: "value" }),
    el("span", { class: "detail" }), el("meter", { min: 0, max: 1, "aria-hidden": "true", hidden: true }));
}

function parts({ breaker, bus, events, journal, memory_tier: tier, store, topology }, now) {
  const found = [storeOf(store, topology, now)];
  if (store.server) found.push(memoryOf(store));
  if (store.kind === "memory") return [...found, ...tierOf(tier)];
  found.push(...tierOf(tier), isPartly(topology) ? busOfShards(topology) : busOf(bus));
  const open = isPartly(topology) ? topology.shards.filter((shard) => !shard.is_available).length : 0;
  found.push({
    name: "Breaker",
    state: breaker.is_open ? (open ? "warn" : "bad") : "good",
    value: breaker.is_open ? (open ? `open for ${plural(open, "shard")}` : "open") : "closed",
    detail: `${plural(breaker.incidents, "incident")} since the start of this process`,
  });
  found.push({
    name: "Journal",
    state: journal.pending ? "warn" : "good",
    value: journal.pending ? `${count(journal.pending)} pending` : "empty",
    detail: journal.pending ? "sent as soon as the store is available again" : "every invalidation was acknowledged",
  });
  if (events) found.push(eventsOf(events));
  return found;
}

function eventsOf({ consumers, group, lag, pending, stream }) {
  const waiting = (lag ?? 0) + pending;
  return {
    name: "Events",
    state: consumers ? "good" : "warn",
    value: lag === null ? "lag not known" : waiting ? `${count(waiting)} waiting` : "all handled",
    detail: `${consumers ? plural(consumers, "consumer") : "no consumer: run flask cache events"}, ${stream}, group ${group}`,
  };
}

function storeOf(store, topology, now) {
  const name = nameOf(store);
  const { server } = store;
  if (store.kind === "memory") {
    return { name: "Store", state: "good", value: "memory", detail: "of one process; nothing is shared" };
  }
  if (topology?.kind === "cluster") return clusterOf(topology);
  const last = topology?.last_failover;
  const moved = last ? `restarted or moved ${ago(last.at, now)}` : "";
  if (!store.is_available) {
    const since = store.since ? `for ${lasting(store.since, now)}; ` : "";
    return { name, state: "bad", value: "down", detail: `${since}it is tried four times a second` };
  }
  if (!server) return { name, state: "good", value: "answers", detail: moved };
  const offset = Math.abs(server.clock_offset ?? 0);
  const clock = offset >= 1 ? `its clock differs by ${seconds(offset)}` : "";
  const detail = [server.version, `up ${seconds(server.uptime)}`, clock, moved].filter(Boolean).join(", ");
  return { name, state: "good", value: "answers", detail };
}

function clusterOf({ nodes, shards }) {
  const used = shards.filter((shard) => shard.is_available).length;
  const there = nodes.filter((node) => node.is_available).length;
  return {
    name: "Cluster",
    state: used === shards.length ? "good" : used ? "warn" : "bad",
    value: used === shards.length ? "answers" : used ? "partly" : "down",
    detail: `${there} of ${plural(nodes.length, "node")}, ${used} of ${plural(shards.length, "shard")} used`,
  };
}

function memoryOf(store) {
  const { server } = store;
  const limit = server.maxmemory;
  const share = limit ? server.used_memory / limit : undefined;
  return {
    name: `${nameOf(store)} memory`,
    state: share > 0.9 ? "warn" : "good",
    value: bytes(server.used_memory),
    detail: `${limit ? `of ${bytes(limit)}` : "no limit"}, ${server.maxmemory_policy}`,
    share,
  };
}

function tierOf(tier) {
  if (!tier) return [{ name: "Memory tier", state: "off", value: "off" }];
  const share = tier.max_bytes ? tier.bytes / tier.max_bytes : undefined;
  const detail = `${plural(tier.entries, "entry", "entries")} of ${bytes(tier.max_bytes)}, this process`;
  return [{ name: "Memory tier", state: "good", value: bytes(tier.bytes), detail, share }];
}

function busOfShards({ shards }) {
  const alive = shards.filter((shard) => shard.bus === "alive").length;
  return {
    name: "Bus",
    state: alive === shards.length ? "good" : "warn",
    value: alive === shards.length ? "alive" : `alive for ${count(alive)}`,
    detail: `invalidations of ${count(alive)} of ${plural(shards.length, "shard")} arrive`,
  };
}

function busOf(bus) {
  const states = {
    alive: ["good", "alive", "invalidations arrive"],
    down: ["bad", "down", "the memory tier is not used"],
    off: ["off", "not started", "starts with the first read"],
  };
  const [state, value, detail] = states[bus?.state] ?? ["off", "none", "not needed without a memory tier"];
  return { name: "Bus", state, value, detail };
}
