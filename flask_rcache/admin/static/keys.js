// The key browser: a filter, pages of entries, and what is known of one. Never a value.

import { call } from "./api.js";
import { $, el, follow, setAttribute, setText } from "./dom.js";
import { NONE, bytes, plural, seconds } from "./format.js";

const WANTED = 50;
const TRIES = 10;

export class Keys {
  #actions;
  #failed;
  #entries = [];
  #asked = null;
  #cursor = null;
  #round = 0;
  #busy = false;
  #shown = "";

  /** `failed(error)` may take a refusal of the token over (true). */
  constructor(actions, failed) {
    this.#actions = actions;
    this.#failed = failed;
    $("keys-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.list();
    });
    $("keys-more").addEventListener("click", () => this.#more());
    $("by-pattern").addEventListener("click", () => this.#dropMatching());
    $("entry-close").addEventListener("click", () => $("entry").close());
    $("entry-drop").addEventListener("click", () => this.#dropEntry());
  }

  /** Offer the types that there are; what is chosen stays chosen. An empty list is filled once there are entries. */
  offer(names, entries) {
    if (entries && this.#asked && !this.#filtered && !this.#entries.length && !this.#busy) this.list();
    const select = $("keys-type");
    const offered = [...select.options].slice(1).map((option) => option.value);
    if (offered.join() === names.join()) return;
    const chosen = select.value;
    select.replaceChildren(select.options[0], ...names.map((name) => el("option", { value: name, text: name })));
    select.value = names.includes(chosen) ? chosen : "";
  }

  forget() {
    this.#round += 1;
    this.#busy = $("keys-more").disabled = false;
    this.#entries = [];
    this.#asked = this.#cursor = null;
    $("keys-pattern").value = "";
    $("entry").close();
    this.#show("");
  }

  /** List from the beginning, by what the filter says. */
  list() {
    const text = $("keys-pattern").value.trim();
    this.#asked = { type: $("keys-type").value, pattern: patternOf(text), plain: text };
    this.#entries = [];
    this.#cursor = null;
    return this.#more();
  }

  async #more() {
    const round = ++this.#round;
    const { pattern, type } = this.#asked;
    const full = this.#entries.length + WANTED;
    setText($("keys-count"), "Looking…");
    this.#busy = $("keys-more").disabled = true;
    try {
      // A page may hold few entries, or none, and still not be the last one.
      for (let tries = 0; tries < TRIES && this.#entries.length < full; tries += 1) {
        const query = new URLSearchParams({ limit: String(WANTED) });
        const wanted = { type, pattern, cursor: this.#cursor };
        for (const [name, value] of Object.entries(wanted)) if (value) query.set(name, value);
        const { data } = await call(`keys?${query}`);
        if (round !== this.#round) return;
        this.#entries.push(...data.keys);
        this.#cursor = data.cursor;
        if (this.#cursor === null) break;
      }
      this.#show(this.#summary());
    } catch (error) {
      if (round !== this.#round || this.#failed(error)) return;
      this.#cursor = null;
      const away = "The store is unavailable: its entries cannot be listed until it is available again.";
      this.#show(error.status === 503 ? away : error.message);
    } finally {
      if (round === this.#round) this.#busy = $("keys-more").disabled = false;
    }
  }

  get #filtered() {
    return Boolean(this.#asked?.plain || this.#asked?.type);
  }

  #summary() {
    const found = this.#entries.length;
    if (this.#cursor !== null) return found ? `${plural(found, "entry", "entries")} so far.` : "Nothing so far.";
    if (!found) return this.#filtered ? "No live entry matches." : "There are no entries in the cache.";
    return `${plural(found, "entry", "entries")}.`;
  }

  #show(summary) {
    // An entry may move to a later page while pages are read: it is shown once.
    this.#entries = [...new Map(this.#entries.map((entry) => [entry.key, entry])).values()];
    follow($("keys"), this.#entries, (entry) => entry.key, (entry) => this.#row(entry), figures);
    $("keys-table").hidden = !this.#entries.length;
    $("keys-more").hidden = this.#cursor === null;
    $("by-pattern").disabled = !this.#entries.length || !this.#filtered;
    setText($("keys-count"), summary);
  }

  #row({ key, path }) {
    const options = { type: "button", class: "link key", text: key, title: key };
    const button = el("button", { ...options, on: { click: () => this.#details(key) } });
    const cell = (label, kind = "number") => el("td", { role: "cell", "data-label": label, class: kind });
    return el("tr", { role: "row" }, el("td", { role: "cell", class: "wide" }, button, path && el("div", { class: "hint", text: path })),
      cell("Fresh for"), cell("Age"), cell("Size"), cell("Load time"), cell("Tags", "tags"));
  }

  async #details(key) {
    const note = $("entry-note");
    this.#shown = key;
    setText($("entry-key"), key);
    $("entry-facts").replaceChildren();
    note.hidden = false;
    setText(note, "Looking…");
    $("entry-drop").disabled = false;
    $("entry").showModal();
    $("entry-close").focus();
    try {
      const { data } = await call(`keys/${encodeURIComponent(key)}`);
      if (this.#shown !== key) return;
      note.hidden = true;
      $("entry-facts").replaceChildren(...facts(data.entry));
    } catch (error) {
      if (this.#shown !== key || this.#failed(error)) return;
      $("entry-drop").disabled = error.status === 404;
      setText(note, error.status === 404 ? "This entry is no longer there: it expired, was evicted or was invalidated." : error.message);
    }
  }

  async #dropEntry() {
    if (!(await this.#actions.entry(this.#shown))) return;
    $("entry").close();
    this.list();
  }

  async #dropMatching() {
    const { pattern, type, plain } = this.#asked;
    // What is a pattern is shown as it is; what was typed plainly, as it was typed.
    const shown = [type && `type ${type}`, plain && `“${plain}”`].filter(Boolean).join(" and ");
    if (await this.#actions.pattern(pattern || "*", type, shown)) this.list();
  }
}

/** What to send for what was typed: plain text is looked for anywhere, with a colon from the beginning. */
function patternOf(text) {
  if (!text || /[*?[\]]/.test(text)) return text;
  return text.includes(":") ? `${text}*` : `*${text}*`;
}

const freshness = (ttl) => (ttl >= 0 ? seconds(Math.round(ttl)) : `stale for ${seconds(Math.round(-ttl))}`);

function figures(row, entry) {
  const [, ttl, age, size, cost, tags] = row.children;
  setText(ttl, freshness(entry.ttl));
  setAttribute(ttl, "class", entry.ttl >= 0 ? "number" : "number late");
  setText(age, seconds(Math.round(entry.age)));
  setText(size, bytes(entry.size));
  setText(cost, entry.cost ? seconds(entry.cost) : NONE);
  tags.replaceChildren(...entry.tags.map((tag) => el("span", { class: "tag", text: tag })));
}

const KINDS = { response: "a response", value: "a value", variants: "the list of a URL's variants" };

function facts(entry) {
  const rows = {
    Type: entry.type,
    Holds: KINDS[entry.kind] ?? entry.kind,
    View: entry.view || NONE,
    Endpoint: entry.endpoint || NONE,
    "URL path": entry.path || NONE,
    "Fresh for": freshness(entry.ttl),
    Age: seconds(Math.round(entry.age)),
    Size: bytes(entry.size),
    "Load time": entry.cost ? seconds(entry.cost) : NONE,
    Tags: entry.tags.join(", ") || "none",
  };
  // A process of the release before, during a deploy, sends neither.
  if (entry.tables?.length) rows.Tables = entry.tables.join(", ");
  if (entry.rows?.length) rows.Rows = entry.rows.join(", ");
  return Object.entries(rows).flatMap(([name, text]) => [el("dt", { text: name }), el("dd", { text: text || NONE })]);
}
