// The list item of an active upload, updated in place so that it keeps the focus.

import { cutWidth } from './cut.js';
import { bytes, duration, nameOf, pageOf, percentage, rate, stateOf } from './format.js';

const template = document.getElementById('live-row');

/** Sets a text if it has changed. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Characters at the end of a long name that are never cut off: people look for the number and the extension. */
const TAIL = 12;

/** Moves the ends of cut names to the ellipsis, when their space changes. That moves nothing else, so names still wrap as before. */
const fitting = new ResizeObserver((entries) => {
  const links = new Set(entries.map(({ target }) => target.closest('.cut')));
  const moves = Array.from(links, (link) => {
    const [start, end] = link.children;
    const room = Math.max(0, link.getBoundingClientRect().width - end.getBoundingClientRect().width);
    return { end, by: (cutWidth(start, room) ?? room) - room };
  });
  // All are read before the first one is changed.
  for (const { end, by } of moves) end.style.insetInlineStart = `${by}px`;
});

/** Sets the text of a link to a name, which is cut in the middle where it is too long. */
export function setName(link, name) {
  const characters = [...name];
  const start = Math.max(0, characters.length - TAIL);
  link.classList.add('cut');
  link.replaceChildren(...[characters.slice(0, start), characters.slice(start)].map((part) => {
    const element = document.createElement('span');
    element.textContent = part.join('');
    return element;
  }));
  link.setAttribute('aria-label', name);
  link.title = name;
  fitting.observe(link);
  fitting.observe(link.lastElementChild);
}

/** The state of an upload; one that a hook denied has failed. */
export function stateName(upload) {
  if (upload.state === 'removed') return 'Removed';
  const isDenied = upload.state === 'failed' && upload.reason?.startsWith('denied ');
  return isDenied ? 'Denied' : stateOf(upload);
}

/** Creates the list item of an upload. */
export function createRow(upload, onCancel) {
  const element = template.content.firstElementChild.cloneNode(true);
  const name = nameOf(upload);
  const heading = element.querySelector('.name');
  setName(heading.firstElementChild, name);
  heading.firstElementChild.href = pageOf(upload);
  heading.id = `upload-${upload.id}`;
  const bar = element.querySelector('progress');
  bar.setAttribute('aria-labelledby', heading.id);
  element.querySelector('.of').textContent = ` ${name}`;
  const button = element.querySelector('.stop');
  button.addEventListener('click', () => onCancel(Number(element.dataset.id)));
  element.dataset.id = upload.id;
  updateRow(element, upload);
  return element;
}

/** Updates the list item of an upload. */
export function updateRow(element, upload) {
  element.dataset.state = upload.state;
  element.dataset.receiving = upload.receiving;
  const bar = element.querySelector('progress');
  if (upload.size == null) {
    bar.removeAttribute('value');
  } else {
    bar.value = upload.size === 0 ? 1 : upload.offset / upload.size;
  }
  setText(element.querySelector('.badge'), stateName(upload));
  setText(element.querySelector('.figures'), figures(upload));
  setText(element.querySelector('.principal'), [
    ...(upload.subject === null ? [] : [`by ${upload.subject}`]),
    ...(upload.node ? [`on ${upload.node}`] : []),
    ...(upload.transfer === 'direct' ? ['direct to S3'] : []),
  ].join(' · '));
}

/** Seconds of some minutes are noise. */
const roughly = (seconds) => (seconds < 120 ? seconds : 60 * Math.round(seconds / 60));

/** The progress as a text. */
export function figures(upload) {
  const parts = [upload.size == null
    ? `${bytes(upload.offset)}, length unknown`
    : `${percentage(upload)} % · ${bytes(upload.offset)} of ${bytes(upload.size)}`];
  if (upload.rate > 0) parts.push(rate(upload.rate));
  if (upload.seconds_left != null) parts.push(`${duration(roughly(upload.seconds_left))} left`);
  return parts.join(' · ');
}
