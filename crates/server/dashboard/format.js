// Formats numbers, sizes and times.

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/** `1536` → `1.5 KiB`. */
export function bytes(count) {
  const power = count < 1 ? 0 : Math.min(Math.floor(Math.log2(count) / 10), UNITS.length - 1);
  const value = count / 1024 ** power;
  const digits = power === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits).replace(/\.0$/, '')} ${UNITS[power]}`;
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

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const MOMENT = new Intl.DateTimeFormat(undefined, {
  day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit',
});
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'long' });

/** The time of day. */
export const timeOfDay = (time) => CLOCK.format(new Date(time));

/** A time, without the date if it is today. */
export function moment(time) {
  const when = new Date(time);
  return when.toDateString() === new Date().toDateString() ? CLOCK.format(when) : MOMENT.format(when);
}

/** A `<time>` element with the full time as its tooltip. */
export function timeElement(time) {
  const element = document.createElement('time');
  element.dateTime = time;
  element.textContent = moment(time);
  element.title = FULL.format(new Date(time));
  return element;
}

/** Labels of the states. */
export const STATES = {
  received: 'Granted',
  started: 'Started',
  progress: 'Uploading',
  completed: 'Completed',
  cancelled: 'Cancelled',
  failed: 'Failed',
  expired: 'Expired',
};

/** The name of an upload. */
export const nameOf = (upload) => upload.filename || upload.upload_id || upload.request_id;

/** The principal of an upload. */
export const principalOf = (upload) => upload.subject ?? 'no grant';
