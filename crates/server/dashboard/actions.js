// The actions on an upload, each after a confirmation.

import * as api from './api.js';
import { announce } from './announce.js';
import { confirm } from './confirm.js';
import { bytes, nameOf } from './format.js';

const ownerOf = ({ subject }) => (subject === null ? '' : ` of ${subject}`);

/** Cancels an active upload; returns it, or nothing if the user declined. */
export async function cancel(upload) {
  const isConfirmed = await confirm({
    title: 'Cancel this upload?',
    message: `${nameOf(upload)}${ownerOf(upload)}: the transfer is stopped, and the ${bytes(upload.offset)} received so far are deleted.`,
    yes: 'Cancel the upload',
    no: 'Keep uploading',
  });
  return isConfirmed ? api.cancelUpload(upload.id) : undefined;
}

/** Bytes that the deletion of an upload in this state deletes; without any, only its entry in the list is left. */
const stored = ({ state, offset }) => ({ completed: `the ${bytes(offset)} in the store`, failed: offset > 0 && 'any bytes in the store' })[state];

/** Deletes an ended upload; returns whether it did. */
export async function remove(upload) {
  const name = `${nameOf(upload)}${ownerOf(upload)}`;
  const isConfirmed = await confirm(stored(upload) ? {
    title: 'Delete this upload?',
    message: `${name}: ${stored(upload)} and the entry in the list are deleted. Your application is notified of the termination.`,
    yes: 'Delete',
    no: 'Keep',
  } : {
    title: 'Remove this upload from the list?',
    message: `${name}: it is no longer in the store. Its entry in the list is deleted, with anything that may remain of it.`,
    yes: 'Remove',
    no: 'Keep',
  });
  if (!isConfirmed) return false;
  await api.deleteUpload(upload.id);
  announce(`${nameOf(upload)} ${stored(upload) ? 'deleted' : 'removed from the list'}.`);
  return true;
}

export const isActive = ({ state }) => ['received', 'started', 'progress'].includes(state);

/** Creates the buttons of an upload. `onChange` is called after an action, `onError` with a failure. */
export function buttons(upload, onChange, onError) {
  const run = (action) => async () => {
    try {
      const result = await action(upload);
      if (result) await onChange(result);
    } catch (error) {
      announce(error.message);
      onError(error);
    }
  };
  const created = [isActive(upload)
    ? button('Cancel', '', upload, run(cancel))
    : stored(upload) ? button('Delete', '', upload, run(remove)) : button('Remove', ' from the list', upload, run(remove))];
  if (upload.download_url) {
    const link = document.createElement('a');
    link.className = 'button';
    link.href = upload.download_url;
    link.append('Download', hidden(upload));
    created.unshift(link);
  }
  return created;
}

/** `more` is the rest of the label where there is room. */
function button(label, more, upload, onClick) {
  const element = document.createElement('button');
  element.type = 'button';
  const rest = document.createElement('span');
  rest.className = 'more';
  rest.textContent = more;
  element.append(label, rest, hidden(upload));
  element.addEventListener('click', onClick);
  return element;
}

function hidden(upload) {
  const element = document.createElement('span');
  element.className = 'visually-hidden';
  element.textContent = ` ${nameOf(upload)}`;
  return element;
}
