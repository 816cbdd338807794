// When to ask: every two seconds, one request at a time, not while the tab is hidden, ever less often after failures.

export const INTERVAL = 2000;
const LONGEST = 30000;

export class Poller {
  #run = null;
  #load;
  #changed;

  /**
   * `load(signal)` asks once. `changed({ state, error, delay })` is called with the state: "asking", then "live",
   * "waiting" (with the error and the milliseconds to the next try) or "hidden".
   */
  constructor(load, changed) {
    this.#load = load;
    this.#changed = changed;
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#pause();
      else this.now();
    });
  }

  start() {
    this.stop();
    this.#run = { abort: new AbortController(), busy: false, failures: 0, timer: 0 };
    this.now();
  }

  stop() {
    if (this.#run === null) return;
    clearTimeout(this.#run.timer);
    this.#run.abort.abort();
    this.#run = null;
  }

  /** Ask at once, unless an answer is under way already. */
  now() {
    if (this.#run === null || this.#run.busy || document.hidden) return;
    clearTimeout(this.#run.timer);
    this.#ask(this.#run);
  }

  #pause() {
    if (this.#run === null) return;
    clearTimeout(this.#run.timer);
    this.#changed({ state: "hidden" });
  }

  async #ask(run) {
    run.busy = true;
    this.#changed({ state: "asking" });
    let outcome = { state: "live" };
    try {
      await this.#load(run.abort.signal);
      run.failures = 0;
    } catch (error) {
      if (run !== this.#run) return;
      run.failures += 1;
      outcome = { state: "waiting", error, delay: Math.min(INTERVAL * 2 ** (run.failures - 1), LONGEST) };
    }
    run.busy = false;
    if (run !== this.#run) return;
    this.#changed(outcome);
    // The callback may have stopped the run.
    if (run !== this.#run) return;
    if (document.hidden) this.#changed({ state: "hidden" });
    else run.timer = setTimeout(() => this.now(), outcome.delay ?? INTERVAL);
  }
}
