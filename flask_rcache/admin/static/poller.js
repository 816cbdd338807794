// When to ask: every two seconds, one request at a time, not while the tab is hidden, ever less often after failures.

export const INTERVAL = 2000;
const LONGEST = 30000;

export class Poller {
  #run = null;
  #load;
  #told;

  /**
   * `load(signal)` asks once. `told({ state, error, delay })` hears how it goes: "asking", then "live", "waiting" (with the
   * error and the milliseconds to the next try) or "hidden".
   */
  constructor(load, told) {
    this.#load = load;
    this.#told = told;
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
    this.#told({ state: "hidden" });
  }

  async #ask(run) {
    run.busy = true;
    this.#told({ state: "asking" });
    let news = { state: "live" };
    try {
      await this.#load(run.abort.signal);
      run.failures = 0;
    } catch (error) {
      if (run !== this.#run) return;
      run.failures += 1;
      news = { state: "waiting", error, delay: Math.min(INTERVAL * 2 ** (run.failures - 1), LONGEST) };
    }
    run.busy = false;
    if (run !== this.#run) return;
    this.#told(news);
    // Whoever was told may have stopped the run.
    if (run !== this.#run) return;
    if (document.hidden) this.#told({ state: "hidden" });
    else run.timer = setTimeout(() => this.now(), news.delay ?? INTERVAL);
  }
}
