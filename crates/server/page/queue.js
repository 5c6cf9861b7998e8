// Runs jobs in order with limited concurrency.

export class Queue {
  #limit;
  #waiting = [];
  #running = 0;

  /** @param {number} limit maximum number of concurrent jobs */
  constructor(limit) {
    this.#limit = limit;
  }

  /**
   * @param {() => Promise<void>} job
   * @returns {() => boolean} removes the job from the queue; false if it has started
   */
  add(job) {
    this.#waiting.push(job);
    this.#next();
    return () => {
      const index = this.#waiting.indexOf(job);
      if (index >= 0) this.#waiting.splice(index, 1);
      return index >= 0;
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
