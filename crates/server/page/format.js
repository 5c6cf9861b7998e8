// Formats numbers, sizes and durations.

const UNITS = ['bytes', 'KB', 'MB', 'GB', 'TB', 'PB'];

/** `1234567` → `1.2 MB` (decimal units, as in file managers and network speeds). */
export function bytes(count) {
  let unit = 0;
  let value = count;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  if (unit === 0) return value === 1 ? '1 byte' : `${value} bytes`;
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

/** Formats two different counts, unrounded if rounding would make them equal. */
export function distinctBytes(one, other) {
  const rounded = [one, other].map(bytes);
  return rounded[0] === rounded[1] ? [one, other].map((count) => `${count.toLocaleString('en')} bytes`) : rounded;
}

/** A percentage, below 100 until complete. */
export function percent(part, whole) {
  if (whole === 0 || part >= whole) return 100;
  return Math.floor((part / whole) * 100);
}

/** Seconds → `about 2 minutes`, rounded to avoid flicker. */
export function timeLeft(seconds) {
  if (seconds < 5) return 'a few seconds';
  if (seconds < 55) return `${Math.ceil(seconds / 5) * 5} seconds`;
  if (seconds < 90) return 'about a minute';
  if (seconds < 55 * 60) return `about ${Math.round(seconds / 60)} minutes`;
  const hours = Math.round(seconds / 1800) / 2;
  if (hours < 36) return hours === 1 ? 'about an hour' : `about ${hours} hours`;
  return `about ${Math.round(hours / 24)} days`;
}

/** `3, 'file'` → `3 files`. */
export function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** Measures a smoothed speed in bytes per second. */
export class SpeedMeter {
  #last = null;
  #rate = 0;
  #weight = 0;

  /** Half-life of measurements, in seconds. */
  static HALF_LIFE = 2.5;

  /**
   * @param {number} count bytes so far; a decrease restarts the measurement
   * @param {number} now milliseconds, monotonic
   */
  sample(count, now) {
    const last = this.#last;
    this.#last = { count, now };
    if (!last || count < last.count) return;
    const seconds = (now - last.now) / 1000;
    if (seconds <= 0) return;
    const weight = 0.5 ** (seconds / SpeedMeter.HALF_LIFE);
    this.#rate = this.#rate * weight + ((count - last.count) / seconds) * (1 - weight);
    this.#weight = this.#weight * weight + (1 - weight);
  }

  /** Resets the measurement, for example during a pause. */
  reset() {
    this.#last = null;
    this.#rate = this.#weight = 0;
  }

  /** Bytes per second, or null before the first measurement. */
  get rate() {
    return this.#weight > 0 ? this.#rate / this.#weight : null;
  }
}
