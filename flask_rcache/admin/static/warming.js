// The warming tasks: when each ran, what became of it, and a button that runs it now.

import { $, el, follow, setAttribute, setLong, setText } from "./dom.js";
import { NONE, ago, count, plural, seconds } from "./format.js";

/** Shows the tasks; `run(names)` is called when a button is pressed, without names for all of them. */
export class Warming {
  #run;

  constructor(run) {
    this.#run = run;
    $("warm-all").addEventListener("click", () => run());
  }

  show({ warming: tasks = [] }, now) {
    $("warming-card").hidden = !tasks.length;
    $("warm-all").disabled = tasks.every((task) => task.running);
    follow($("warming"), tasks, (task) => task.name, (task) => this.#row(task.name), (row, task) => showRow(row, task, now));
  }

  #row(name) {
    const cell = (label, ...children) => el("td", { role: "cell", "data-label": label, class: "number" }, ...children);
    const button = el("button", { type: "button", text: "Run", "aria-label": `Run ${name}` });
    button.addEventListener("click", () => this.#run([name]));
    return el("tr", { role: "row", "data-task": name },
      el("th", { role: "rowheader", scope: "row" }),
      el("td", { role: "cell", "data-label": "State", class: "state" },
        el("span", { class: "dot", "aria-hidden": "true" }), " ", el("span"), el("span", { class: "detail" })),
      cell("Last run"), cell("Took"), cell("Runs"), cell("Failed"),
      el("td", { role: "cell", class: "act" }, button));
  }
}

function showRow(row, task, now) {
  const [name, state, last, took, runs, failed, act] = row.children;
  const [kind, words] = stateOf(task);
  setAttribute(row, "data-state", kind);
  setLong(name, task.name);
  setText(state.children[1], words);
  setLong(state.children[2], task.error && !task.running ? task.error : "");
  setText(last, task.last_run ? ago(task.last_run, now) : NONE);
  setText(took, task.execution_count ? seconds(task.duration) : NONE);
  setAttribute(last, "title", `every ${seconds(task.every)}`);
  setText(runs, count(task.execution_count));
  setText(failed, count(task.failure_count));
  failed.classList.toggle("late", task.failure_count > 0);
  act.firstChild.disabled = task.running;
}

function stateOf(task) {
  if (task.running) return ["live", "runs"];
  if (task.error) return [task.critical ? "bad" : "warn", "failed"];
  return task.last_success ? ["good", "warm"] : ["off", "not run yet"];
}

/** What to say of tasks that were asked to run. */
export function warmed({ started, running }) {
  const parts = [];
  if (started.length) parts.push(`${plural(started.length, "task")} started: ${started.join(", ")}.`);
  if (running.length) parts.push(`${running.join(", ")} ${running.length === 1 ? "runs" : "run"} already.`);
  return parts.join(" ") || "There is no task to run.";
}
