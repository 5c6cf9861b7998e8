// Getting hold of files: chosen, dropped or pasted, with a handle where the browser gives one.

/** Most files taken at a time; a folder may hold any number. */
export const MAX_FILES = 1000;

/**
 * @typedef {import('./store.js').Source} Source
 */

/**
 * Lets the person choose files.
 *
 * @param {HTMLInputElement} input the fallback
 * @param {boolean} multiple
 * @returns {Promise<Source[]>} empty when they changed their mind
 */
export async function chooseFiles(input, multiple) {
  // On phones the plain input offers the camera and the gallery; the picker does not.
  if ('showOpenFilePicker' in window && matchMedia('(pointer: fine)').matches) {
    try {
      const handles = await window.showOpenFilePicker({ multiple });
      return await Promise.all(handles.map(fromHandle));
    } catch (error) {
      if (error.name === 'AbortError') return [];
    }
  }
  return new Promise((resolve) => {
    input.multiple = multiple;
    input.value = '';
    input.onchange = () => resolve(fromList(input.files));
    input.oncancel = () => resolve([]);
    input.click();
  });
}

/** @returns {Source[]} */
export function fromList(files) {
  return Array.from(files, (file) => ({ file }));
}

/**
 * Files of a drop; folders are walked through.
 *
 * @param {DataTransfer} transfer
 * @returns {Promise<Source[]>} up to one more than `MAX_FILES`, so that the caller sees the excess
 */
export async function fromDrop(transfer) {
  // The transfer is empty as soon as this turn of the event loop ends: ask for all at once.
  const items = Array.from(transfer.items)
    .filter((item) => item.kind === 'file')
    .map((item) => ({
      file: item.getAsFile(),
      entry: item.webkitGetAsEntry?.(),
      handle: item.getAsFileSystemHandle?.().catch(() => null),
    }));
  const found = [];
  for (const { file, entry, handle } of items) {
    if (entry?.isDirectory) await walk(entry, found);
    else if (file) found.push({ file, handle: (await handle) ?? undefined });
  }
  return found;
}

/** @returns {Promise<Source>} */
export async function fromHandle(handle) {
  return { file: await handle.getFile(), handle };
}

async function walk(directory, found) {
  const reader = directory.createReader();
  while (found.length <= MAX_FILES) {
    // Gives a part of the entries at a time, and none at the end.
    const entries = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (entries.length === 0) return;
    for (const entry of entries) {
      if (entry.isDirectory) await walk(entry, found);
      else found.push({ file: await new Promise((resolve, reject) => { entry.file(resolve, reject); }) });
      if (found.length > MAX_FILES) return;
    }
  }
}
