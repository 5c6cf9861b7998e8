// Formats numbers, sizes and times.

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB'];

/** `1500` → `1.5 kB`, as on the upload page. */
export function bytes(count) {
  let power = 0;
  let value = count;
  while (value >= 999.5 && power < UNITS.length - 1) {
    value /= 1000;
    power += 1;
  }
  const precision = power === 0 || value >= 99.95 ? 1 : 10;
  return `${Math.round(value * precision) / precision} ${UNITS[power]}`;
}

/** Bytes per second. */
export const rate = (count) => `${bytes(count)}/s`;

const COUNT = new Intl.NumberFormat('en');

/** `12345` → `12,345`. */
export const number = (count) => COUNT.format(count);

/** `1 upload`, `2 uploads`. */
export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

/** `75` → `1 min 15 s`. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return joinUnits(whole, 60, 'min', 1, 's');
  if (whole < 86_400) return joinUnits(whole, 3600, 'h', 60, 'min');
  return joinUnits(whole, 86_400, 'd', 3600, 'h');
}

function joinUnits(seconds, large, largeName, small, smallName) {
  const first = Math.floor(seconds / large);
  const rest = Math.floor((seconds % large) / small);
  return rest === 0 || first >= 10 ? `${first} ${largeName}` : `${first} ${largeName} ${rest} ${smallName}`;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const DAY = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const MOMENT = new Intl.DateTimeFormat(undefined, {
  day: 'numeric', month: 'short', hour: 'numeric', minute: '2-digit',
});
const OLD = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'long' });

/** The time of day. */
export const timeOfDay = (time) => CLOCK.format(new Date(time));

/** The day. */
export const day = (time) => DAY.format(new Date(time));

/** The date and the time; with the year, if it is another one. */
export function moment(time) {
  const when = new Date(time);
  return (when.getFullYear() === new Date().getFullYear() ? MOMENT : OLD).format(when);
}

/** A `<time>` element with the full time, to the second, as its tooltip. */
export function timeElement(time) {
  const element = document.createElement('time');
  element.dateTime = time;
  element.textContent = moment(time);
  element.title = FULL.format(new Date(time));
  return element;
}

/** Labels of the states without a transfer. */
export const STATES = {
  received: 'Granted',
  completed: 'Completed',
  cancelled: 'Cancelled',
  failed: 'Failed',
  expired: 'Expired',
};

/** The state of an upload. Only one whose bytes arrive now is being received. */
export const stateOf = ({ state, receiving }) => STATES[state] ?? (receiving ? 'Receiving' : 'Waiting for the client');

/** The page of an upload. */
export const pageOf = (upload) => `#/uploads/${upload.id}`;

/** The percentage, below 100 until it is complete. */
export const percentage = ({ offset, size }) => (size === 0 ? 0 : Math.floor((100 * offset) / size));

/** The name of an upload. */
export const nameOf = (upload) => upload.filename || upload.upload_id || upload.request_id;
