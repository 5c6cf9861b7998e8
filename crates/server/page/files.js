// Reads chosen, dropped and pasted files, with a handle if the browser supports it.

/** Maximum number of files added at once. */
export const MAX_FILES = 1000;

/**
 * @typedef {import('./store.js').Source} Source
 */

/**
 * Opens the file picker.
 *
 * @param {HTMLInputElement} input fallback without the File System Access API
 * @param {boolean} multiple
 * @returns {Promise<Source[]>} empty when cancelled
 */
export async function chooseFiles(input, multiple) {
  // On phones, only the plain input offers the camera and the gallery.
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
 * Returns the files of a drop, including those in folders.
 *
 * @param {DataTransfer} transfer
 * @returns {Promise<Source[]>} at most one more than `MAX_FILES`, to detect the excess
 */
export async function fromDrop(transfer) {
  // The transfer is cleared after this turn of the event loop: read all items now.
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
    // Returns the entries in batches, and none at the end.
    const entries = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (entries.length === 0) return;
    for (const entry of entries) {
      if (entry.isDirectory) await walk(entry, found);
      else found.push({ file: await new Promise((resolve, reject) => { entry.file(resolve, reject); }) });
      if (found.length > MAX_FILES) return;
    }
  }
}
