// The list item of an active upload, updated in place so that it keeps the focus.

import { STATES, bytes, duration, nameOf, principalOf, rate } from './format.js';

const template = document.getElementById('live-row');

/** Sets a text if it has changed. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Creates the list item of an upload. */
export function createRow(upload, onCancel) {
  const element = template.content.firstElementChild.cloneNode(true);
  const name = nameOf(upload);
  const heading = element.querySelector('.name');
  heading.textContent = name;
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
  const bar = element.querySelector('progress');
  if (upload.size == null) {
    bar.removeAttribute('value');
  } else {
    bar.value = upload.size === 0 ? 1 : upload.offset / upload.size;
  }
  setText(element.querySelector('.badge'), stateOf(upload));
  setText(element.querySelector('.figures'), figures(upload));
  const node = upload.node ? ` · on ${upload.node}` : '';
  const transfer = upload.transfer === 'direct' ? ' · direct to S3' : '';
  setText(element.querySelector('.principal'), `${principalOf(upload)}${node}${transfer}`);
}

function stateOf(upload) {
  const isStalled = upload.state === 'progress' && upload.rate === 0;
  return isStalled ? 'Waiting for the client' : STATES[upload.state];
}

function figures(upload) {
  const parts = [upload.size == null
    ? `${bytes(upload.offset)}, length unknown`
    : `${percentage(upload)} % · ${bytes(upload.offset)} of ${bytes(upload.size)}`];
  if (upload.rate > 0) parts.push(rate(upload.rate));
  if (upload.seconds_left != null) parts.push(`${duration(upload.seconds_left)} left`);
  return parts.join(' · ');
}

/** The percentage, below 100 until it is complete. */
const percentage = ({ offset, size }) => (size === 0 ? 0 : Math.floor((100 * offset) / size));
