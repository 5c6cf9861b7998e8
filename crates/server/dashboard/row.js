// The list item of an active upload, updated in place so that it keeps the focus.

import { bytes, duration, nameOf, pageOf, percentage, rate, stateOf } from './format.js';

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
  heading.firstElementChild.textContent = name;
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
  setText(element.querySelector('.badge'), stateOf(upload));
  setText(element.querySelector('.figures'), figures(upload));
  setText(element.querySelector('.principal'), [
    ...(upload.subject === null ? [] : [`by ${upload.subject}`]),
    ...(upload.node ? [`on ${upload.node}`] : []),
    ...(upload.transfer === 'direct' ? ['direct to S3'] : []),
  ].join(' · '));
}

/** The progress as a text. */
export function figures(upload) {
  const parts = [upload.size == null
    ? `${bytes(upload.offset)}, length unknown`
    : `${percentage(upload)} % · ${bytes(upload.offset)} of ${bytes(upload.size)}`];
  if (upload.rate > 0) parts.push(rate(upload.rate));
  if (upload.seconds_left != null) parts.push(`${duration(upload.seconds_left)} left`);
  return parts.join(' · ');
}
