// What changes the cache: each asks first, and reports the result.

import { call } from "./api.js";
import { $, el } from "./dom.js";
import { plural } from "./format.js";
import { warmed } from "./warming.js";

const SHOWN = 8000;
const JOURNALLED = "Journalled: the store is unavailable. This process has dropped it at once, "
  + "the others will when the store is available again.";

/**
 * Ask whether to go on, and do it inside the dialog, so that a failure can be read there and tried again. When a dialog
 * closes, the browser gives the focus back to the button that opened it.
 * `field` names an input whose text `act(text)` gets. Resolves to what `act` returned, or null when it was cancelled.
 */
export function confirmed({ title, text, yes, field, act }) {
  const dialog = $("confirm");
  const input = $("confirm-input");
  const error = $("confirm-error");
  $("confirm-title").textContent = title;
  $("confirm-text").textContent = text;
  $("confirm-yes").textContent = yes;
  $("confirm-field").hidden = !field;
  $("confirm-field").querySelector("label").textContent = field ?? "";
  input.value = "";
  error.hidden = true;
  return new Promise((resolve) => {
    let outcome = null;
    let busy = false;
    const over = new AbortController();
    const listen = (target, type, listener) => target.addEventListener(type, listener, { signal: over.signal });
    listen($("confirm-no"), "click", () => dialog.close());
    listen(dialog, "cancel", (event) => busy && event.preventDefault());
    listen(dialog, "close", () => {
      over.abort();
      resolve(outcome);
    });
    listen(dialog.querySelector("form"), "submit", async (event) => {
      event.preventDefault();
      if (busy) return;
      busy = $("confirm-yes").disabled = $("confirm-no").disabled = true;
      error.hidden = true;
      try {
        outcome = await act(input.value);
        dialog.close();
      } catch (failure) {
        error.textContent = failure.message;
        error.hidden = false;
      } finally {
        busy = $("confirm-yes").disabled = $("confirm-no").disabled = false;
      }
    });
    dialog.showModal();
    (field ? input : $("confirm-no")).focus();
  });
}

/** Report a result; read aloud, shown for eight seconds or until it is clicked. */
export function report(kind, text) {
  const note = el("p", { class: `note ${kind}`, text });
  $("results").append(note);
  const gone = () => note.remove();
  note.addEventListener("click", gone);
  setTimeout(gone, SHOWN);
  while ($("results").children.length > 3) $("results").firstChild.remove();
}

export class Actions {
  #failed;
  #done;

  /** `failed(error)` may take a refusal of the token over (true); `done()` is called after each change. */
  constructor(failed, done) {
    this.#failed = failed;
    this.#done = done;
    $("clear-all").addEventListener("click", () => this.everything());
    $("by-tags").addEventListener("click", () => this.tags());
  }

  type(name, entries) {
    const much = entries ? `About ${plural(entries, "entry", "entries")} will` : "Its entries will";
    return this.#ask({
      title: `Invalidate ${name}?`,
      text: `${much} be loaded again at their next request, in every process.`,
      yes: `Invalidate ${name}`,
      act: () => this.#send(`invalidate/${encodeURIComponent(name)}`),
      says: (removed) => `${name}: ${plural(removed, "entry", "entries")} invalidated.`,
    });
  }

  everything() {
    return this.#ask({
      title: "Clear the whole cache?",
      text: "Every entry of every type becomes invalid, in every process. Other keys of the database are not touched.",
      yes: "Clear all",
      act: () => this.#send("clear-all"),
      says: (removed) => `Everything: ${plural(removed, "entry", "entries")} invalidated.`,
    });
  }

  tags() {
    return this.#ask({
      title: "Invalidate tags",
      text: "Every entry that has any of the tags becomes invalid, in every process.",
      yes: "Invalidate tags",
      field: "Tags, separated by commas",
      act: (text) => {
        const tags = text.split(",").map((tag) => tag.trim()).filter(Boolean);
        if (!tags.length) throw new Error("Name at least one tag.");
        return this.#send("invalidate-tags", { tags });
      },
      says: (removed) => `${plural(removed, "tag")} invalidated.`,
    });
  }

  pattern(pattern, type, shown) {
    return this.#ask({
      title: "Invalidate what matches?",
      text: `Every entry whose key matches ${shown} is removed, also those that are not listed here.`,
      yes: "Invalidate matching",
      act: () => this.#send("invalidate-pattern", type ? { pattern, type } : { pattern }),
      says: (removed) => `${shown}: ${plural(removed, "entry", "entries")} removed.`,
    });
  }

  entry(key) {
    return this.#ask({
      title: "Invalidate this entry?",
      text: `${key} will be loaded again at its next request.`,
      yes: "Invalidate entry",
      act: () => this.#send("invalidate-pattern", { pattern: key.replace(/[\\*?[\]]/g, "\\$&") }),
      says: (removed) => (removed ? "The entry was removed." : "The entry was gone already."),
    });
  }

  /** Run warming tasks, all of them when none is named. It changes nothing that has to be confirmed. */
  async warm(names = []) {
    try {
      const answer = await this.#send("warm", { names });
      if (answer.refused) return;
      report("good", warmed(answer.data));
      this.#done();
    } catch (error) {
      report("bad", error.message);
    }
  }

  async #ask({ says, ...question }) {
    const answer = await confirmed(question);
    if (answer === null || answer.refused) return false;
    if (answer.status === 202) report("warn", JOURNALLED);
    else report("good", says(answer.data.deleted_keys));
    this.#done();
    return true;
  }

  async #send(path, body) {
    try {
      return await call(path, { method: "POST", body });
    } catch (error) {
      if (this.#failed(error)) return { refused: true };
      throw error;
    }
  }
}
