// The servers behind the cache: the master and its sentinels, or the nodes and shards of a cluster.

import { $, el, follow, setAttribute, setLong, setText } from "./dom.js";
import { ago, bytes, count, lasting, plural } from "./format.js";

const KINDS = { sentinel: "Sentinel", cluster: "Cluster" };

/** Show the card; one server alone has its place in the list of what is healthy. */
export function servers({ topology }, now) {
  const shown = Boolean(topology && KINDS[topology.kind]);
  $("servers-card").hidden = !shown;
  if (!shown) return;
  setText($("servers-title"), topology.kind === "sentinel" ? `Sentinel, service “${topology.service}”` : "Cluster");
  setText($("servers-hint"), summary(topology, now));
  follow($("servers"), rowsOf(topology, now), (row) => row.key, newRow, showRow);
  const shards = topology.shards ?? [];
  $("shards-part").hidden = !shards.length;
  follow($("shards"), shards, (shard) => shard.number, () => el("li", {}), showShard);
}

function summary({ generation, last_failover: last }, now) {
  const before = last?.before ? `, before it was ${last.before}` : "";
  const failover = last ? `last failover ${ago(last.at, now)}${before}` : "no failover seen by this process";
  return `${failover} · generation ${count(generation)}`;
}

function rowsOf(topology, now) {
  const shards = topology.shards ?? [];
  const nodes = topology.nodes.map((node) => {
    const own = shards.filter((shard) => shard.node === node.address);
    const pending = own.reduce((sum, shard) => sum + shard.pending, 0);
    return {
      key: `node ${node.address}`,
      name: node.address || "not connected yet",
      role: node.role,
      state: node.is_available ? "good" : "bad",
      value: node.is_available ? "used" : away(node.since, now),
      detail: details(node, pending),
    };
  });
  const sentinels = (topology.sentinels ?? []).map((sentinel) => ({
    key: `sentinel ${sentinel.address}`,
    name: sentinel.address,
    role: "sentinel",
    state: sentinel.state === "ok" ? "good" : sentinel.state === "unknown" ? "off" : "bad",
    value: sentinel.state === "ok" ? "has a quorum" : stateOf(sentinel, now),
    detail: sentinel.detail,
  }));
  return [...nodes, ...sentinels];
}

const away = (since, now) => (since ? `away for ${lasting(since, now)}` : "away");

function stateOf({ state, since }, now) {
  if (state === "unknown") return "not asked yet";
  return since ? `${state} for ${lasting(since, now)}` : state;
}

function memoryOf({ used_memory: used, maxmemory: limit, evicted_keys: evicted }) {
  return `${bytes(used)}${limit ? ` of ${bytes(limit)}` : ""}${evicted ? `, ${count(evicted)} evicted` : ""}`;
}

function details({ connections, replicas, server, shards }, pending) {
  const parts = [];
  if (shards) parts.push(shards.length ? `${plural(shards.length, "shard")}: ${shards.join(", ")}` : "no shards");
  if (replicas) parts.push(replicas.length ? plural(replicas.length, "replica") : "no replica");
  parts.push(plural(connections, "connection"));
  if (server) parts.push(memoryOf(server));
  if (pending) parts.push(`${count(pending)} journalled`);
  return parts.join(" · ");
}

function newRow() {
  return el("tr", { role: "row" },
    el("th", { role: "rowheader", scope: "row" }),
    el("td", { role: "cell", "data-label": "Role" }),
    el("td", { role: "cell", "data-label": "State", class: "state" }, el("span", { class: "dot", "aria-hidden": "true" }), " ", el("span")),
    el("td", { role: "cell", "data-label": "Details", class: "detail" }));
}

function showRow(element, row) {
  const [name, role, state, detail] = element.children;
  setAttribute(element, "data-state", row.state);
  setText(name, row.name);
  setText(role, row.role);
  setText(state.lastChild, row.value);
  setLong(detail, row.detail);
}

function showShard(element, shard) {
  const state = shard.is_available ? (shard.pending || shard.bus === "down" ? "warn" : "good") : "bad";
  setAttribute(element, "data-state", state);
  const pending = shard.pending ? ` · ${count(shard.pending)}` : "";
  setText(element, `${shard.number}${pending}`);
  setAttribute(element, "title", about(shard));
  setAttribute(element, "aria-label", about(shard));
}

function about({ bus, cause, is_available: used, node, number, pending }) {
  const where = node ? `on ${node}` : "on no node";
  const trouble = used ? "" : `, away${cause ? `: ${cause}` : ""}`;
  const deaf = bus === "down" ? ", its bus is down" : "";
  return `Shard ${number} ${where}${trouble}${deaf}, ${pending ? `${count(pending)} journalled` : "journal empty"}`;
}

/** The banners of the topology: what an operator has to do something about. */
export function warningsOf({ topology }) {
  const found = [];
  if (topology?.kind === "cluster") {
    const lost = topology.shards.filter((shard) => !shard.is_available).map((shard) => shard.number);
    if (lost.length && lost.length < topology.shards.length) {
      found.push({
        kind: "warn",
        title: `${plural(lost.length, "shard")} of ${topology.shards.length} away`,
        text: `${lost.join(", ")}: what lies there is loaded by the app, and its invalidations are journalled. The other `
          + "shards go on.",
      });
    }
  }
  const sentinels = (topology?.sentinels ?? []).filter((sentinel) => sentinel.state !== "unknown");
  const well = sentinels.filter((sentinel) => sentinel.state === "ok");
  if (sentinels.length && !well.length) {
    found.push({
      kind: "bad",
      title: "No sentinel has a quorum",
      text: "When the master fails, nothing takes over. Start the sentinels that are away, and see that a replica is "
        + "connected to the master.",
    });
  } else if (well.length < sentinels.length) {
    const names = sentinels.filter((sentinel) => sentinel.state !== "ok").map((sentinel) => sentinel.address);
    found.push({
      kind: "warn",
      title: `${plural(names.length, "sentinel")} of ${sentinels.length} away`,
      text: `${names.join(", ")}. With fewer than a majority no failover happens.`,
    });
  }
  return found;
}
