// Formats sizes and durations, and measures speeds.

import { number, text } from './i18n.js';

/** Their texts have the keys `size_kilo` and so on. */
const UNITS = ['kilo', 'mega', 'giga', 'tera', 'peta'];

/** `1234567` → `1.2 MB` (powers of 1000, as in file managers and network speeds, and as on the dashboard). */
export function bytes(count) {
  let unit = -1;
  let value = count;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  if (unit < 0) return text('size_bytes', { count: value });
  const options = { maximumFractionDigits: value < 99.95 ? 1 : 0, useGrouping: false };
  return text(`size_${UNITS[unit]}`, { size: number(value, options) });
}

/** Formats two different counts, unrounded if rounding would make them equal. */
export function distinctBytes(one, other) {
  const rounded = [one, other].map(bytes);
  return rounded[0] === rounded[1] ? [one, other].map((count) => text('size_bytes', { count })) : rounded;
}

/** A percentage, below 100 until complete. */
export function percent(part, whole) {
  if (whole === 0 || part >= whole) return 100;
  return Math.floor((part / whole) * 100);
}

/** Formats a percentage, below 100 until complete. */
export function percentage(part, whole) {
  return number(percent(part, whole) / 100, { style: 'percent' });
}

/** The speed and the time left, as far as they are known. */
export function pace(left, rate) {
  if (rate === null) return [];
  if (left === 0) return [text('finishing')];
  const speed = text('speed', { size: bytes(Math.round(rate)) });
  return rate < 1 ? [speed] : [speed, timeLeft(left / rate)];
}

/** Seconds → `about 2 minutes left`, rounded to avoid flicker. */
export function timeLeft(seconds) {
  if (seconds < 5) return text('left_soon');
  if (seconds < 55) return text('left_seconds', { count: Math.ceil(seconds / 5) * 5 });
  if (seconds < 55 * 60) return text('left_minutes', { count: Math.round(seconds / 60) });
  const hours = Math.round(seconds / 1800) / 2;
  if (hours < 36) return text('left_hours', { count: hours });
  return text('left_days', { count: Math.round(hours / 24) });
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
