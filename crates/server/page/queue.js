// Runs jobs in the order they came, only so many at a time.

export class Queue {
  #limit;
  #waiting = [];
  #running = 0;

  /** @param {number} limit most jobs at a time */
  constructor(limit) {
    this.#limit = limit;
  }

  /**
   * @param {() => Promise<void>} job
   * @returns {() => boolean} takes the job out again; false if it has begun already
   */
  add(job) {
    this.#waiting.push(job);
    this.#next();
    return () => {
      const at = this.#waiting.indexOf(job);
      if (at >= 0) this.#waiting.splice(at, 1);
      return at >= 0;
    };
  }

  #next() {
    while (this.#running < this.#limit && this.#waiting.length > 0) {
      const job = this.#waiting.shift();
      this.#running += 1;
      job().finally(() => {
        this.#running -= 1;
        this.#next();
      });
    }
  }
}
