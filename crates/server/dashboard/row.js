// One upload that is under way: made once and then changed, so that nobody loses the focus.

import { STATES, bytes, nameOf, rate, span, whoOf } from './format.js';

const template = document.getElementById('live-row');

/** Sets a text only if it is another one. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The list item of an upload. */
export function row(upload, onCancel) {
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
  update(element, upload);
  return element;
}

/** Shows how far it got. */
export function update(element, upload) {
  element.dataset.state = upload.state;
  const bar = element.querySelector('progress');
  if (upload.size == null) {
    bar.removeAttribute('value');
  } else {
    bar.value = upload.size === 0 ? 1 : upload.offset / upload.size;
  }
  say(element.querySelector('.badge'), stateOf(upload));
  say(element.querySelector('.figures'), figures(upload));
  const node = upload.node ? ` · on ${upload.node}` : '';
  const way = upload.way === 'direct' ? ' · straight to S3' : '';
  say(element.querySelector('.who'), `${whoOf(upload)}${node}${way}`);
}

function stateOf(upload) {
  const isSilent = upload.state === 'progress' && upload.rate === 0;
  return isSilent ? 'Waiting for the client' : STATES[upload.state];
}

function figures(upload) {
  const parts = [upload.size == null
    ? `${bytes(upload.offset)}, length unknown`
    : `${share(upload)} % · ${bytes(upload.offset)} of ${bytes(upload.size)}`];
  if (upload.rate > 0) parts.push(rate(upload.rate));
  if (upload.seconds_left != null) parts.push(`${span(upload.seconds_left)} left`);
  return parts.join(' · ');
}

/** Never 100 before it is complete. */
const share = ({ offset, size }) => (size === 0 ? 0 : Math.floor((100 * offset) / size));
