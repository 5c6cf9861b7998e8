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

/** Deletes an ended upload; returns whether it did. */
export async function remove(upload) {
  const isConfirmed = await confirm({
    title: 'Delete this upload?',
    message: upload.state === 'completed'
      ? `${nameOf(upload)}${ownerOf(upload)}: the ${bytes(upload.offset)} in the store and the entry in the list are deleted. Your application is notified of the termination.`
      : `${nameOf(upload)}${ownerOf(upload)}: the entry in the list is deleted.`,
    yes: 'Delete',
    no: 'Keep',
  });
  if (!isConfirmed) return false;
  await api.deleteUpload(upload.id);
  announce(`${nameOf(upload)} deleted.`);
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
    ? button('Cancel', upload, run(cancel))
    : button('Delete', upload, run(remove))];
  if (upload.download_url) {
    const link = document.createElement('a');
    link.className = 'button';
    link.href = upload.download_url;
    link.append('Download', hidden(upload));
    created.unshift(link);
  }
  return created;
}

function button(label, upload, onClick) {
  const element = document.createElement('button');
  element.type = 'button';
  element.append(label, hidden(upload));
  element.addEventListener('click', onClick);
  return element;
}

function hidden(upload) {
  const element = document.createElement('span');
  element.className = 'visually-hidden';
  element.textContent = ` ${nameOf(upload)}`;
  return element;
}
