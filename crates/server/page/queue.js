// Runs jobs in order with limited concurrency.

export class Queue {
  #limit;
  #waiting = [];
  #urgent = [];
  #running = 0;
  #isHeld;

  /**
   * @param {number} limit maximum number of concurrent jobs
   * @param {() => boolean} [isHeld] whether only urgent jobs may start; call `next` when this changes
   */
  constructor(limit, isHeld = () => false) {
    this.#limit = limit;
    this.#isHeld = isHeld;
  }

  /**
   * @param {() => Promise<void>} job
   * @param {object} [options]
   * @param {boolean} [options.isUrgent] starts before the other jobs
   * @returns {() => boolean} removes the job from the queue; false if it has started
   */
  add(job, { isUrgent = false } = {}) {
    const jobs = isUrgent ? this.#urgent : this.#waiting;
    jobs.push(job);
    this.next();
    return () => {
      const index = jobs.indexOf(job);
      if (index >= 0) jobs.splice(index, 1);
      return index >= 0;
    };
  }

  /** Starts jobs while there is capacity. */
  next() {
    while (this.#running < this.#limit) {
      const job = this.#urgent.shift() ?? (this.#isHeld() ? undefined : this.#waiting.shift());
      if (!job) return;
      this.#running += 1;
      job().finally(() => {
        this.#running -= 1;
        this.next();
      });
    }
  }
}
