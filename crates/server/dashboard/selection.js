// The selected rows of the table of uploads, and the actions on all of them.

import * as api from './api.js';
import { isActive } from './actions.js';
import { announce } from './announce.js';
import { confirm } from './confirm.js';
import { count, number } from './format.js';
import { setText } from './row.js';

const part = (id) => document.getElementById(id);
const every = part('select-all');

/** The uploads of the page, and the ids of the selected ones. */
let uploads = [];
let selected = new Set();

/** `onChange` is called after uploads were changed. */
export function start(onChange) {
  every.addEventListener('change', () => {
    selected = new Set(every.checked ? uploads.map(({ id }) => id) : []);
    show();
  });
  const run = (wanted, question, action, participle) => async () => {
    const chosen = uploads.filter((upload) => selected.has(upload.id) && isActive(upload) === wanted);
    if (!await confirm({ ...question, title: question.title(count(chosen.length, 'upload')) })) return;
    const results = await Promise.allSettled(chosen.map(({ id }) => action(id)));
    const failed = results.filter(({ status }) => status === 'rejected');
    const message = [
      `${count(results.length - failed.length, 'upload')} ${participle}.`,
      ...failed.length > 0 ? [`${number(failed.length)} failed: ${failed[0].reason.message}`] : [],
    ].join(' ');
    announce(message);
    setText(part('selection-result'), failed.length > 0 ? message : '');
    await onChange();
    part('history').focus();
  };
  part('cancel-selected').addEventListener('click', run(true, {
    title: (what) => `Cancel ${what}?`,
    message: 'The transfers are stopped, and the received bytes are deleted.',
    yes: 'Cancel them',
    no: 'Keep uploading',
  }, api.cancelUpload, 'cancelled'));
  part('delete-selected').addEventListener('click', run(false, {
    title: (what) => `Delete ${what}?`,
    message: 'Their stored bytes and their entries in the list are deleted. Your application is notified of each termination.',
    yes: 'Delete them',
    no: 'Keep',
  }, api.deleteUpload, 'deleted'));
}

/** Shows the selection on another page of the table, or on a changed one. */
export function update(found) {
  uploads = found;
  selected = new Set(uploads.map(({ id }) => id).filter((id) => selected.has(id)));
  show();
}

/** Creates the checkbox of a row. */
export function checkbox(upload, name) {
  const box = document.createElement('input');
  box.type = 'checkbox';
  box.value = upload.id;
  box.checked = selected.has(upload.id);
  box.setAttribute('aria-label', `Select ${name}`);
  box.addEventListener('change', () => {
    if (box.checked) selected.add(upload.id);
    else selected.delete(upload.id);
    show();
  });
  return box;
}

function show() {
  for (const box of document.querySelectorAll('#rows tbody input')) box.checked = selected.has(Number(box.value));
  every.checked = uploads.length > 0 && selected.size === uploads.length;
  every.indeterminate = selected.size > 0 && !every.checked;
  const active = uploads.filter((upload) => selected.has(upload.id) && isActive(upload)).length;
  part('selection').hidden = selected.size === 0;
  setText(part('selection-count'), `${count(selected.size, 'upload')} selected`);
  for (const [id, sum, label] of [['cancel-selected', active, 'Cancel'], ['delete-selected', selected.size - active, 'Delete']]) {
    part(id).hidden = sum === 0;
    setText(part(id), `${label} ${sum} …`);
  }
}
