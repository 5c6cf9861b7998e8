// Figures in words.

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
export const some = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** `75` → `1 min 15 s`. */
export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return join(whole, 60, 'min', 1, 's');
  if (whole < 86_400) return join(whole, 3600, 'h', 60, 'min');
  return join(whole, 86_400, 'd', 3600, 'h');
}

function join(seconds, large, largeName, small, smallName) {
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
export const clock = (time) => CLOCK.format(new Date(time));

/** A time: of today without the date. */
export function moment(time) {
  const when = new Date(time);
  return when.toDateString() === new Date().toDateString() ? CLOCK.format(when) : MOMENT.format(when);
}

/** A `<time>` that says it in short, and in full to those who point at it. */
export function timeOf(time) {
  const element = document.createElement('time');
  element.dateTime = time;
  element.textContent = moment(time);
  element.title = FULL.format(new Date(time));
  return element;
}

/** What a state is called. */
export const STATES = {
  received: 'Granted',
  started: 'Begun',
  progress: 'Receiving',
  completed: 'Completed',
  cancelled: 'Cancelled',
  failed: 'Failed',
  expired: 'Expired',
};

/** What an upload is called. */
export const nameOf = (upload) => upload.filename || upload.upload_id || upload.request_id;

/** Who uploads it. */
export const whoOf = (upload) => upload.subject ?? 'no grant';
