// Reads chosen, dropped and pasted files, with their folders, and with a handle if the browser supports it.

/** Maximum number of files added at once. */
export const MAX_FILES = 10_000;

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
  input.multiple = multiple;
  return openInput(input);
}

/** Whether the browser lets the user choose a folder. */
export const canChooseFolder = 'webkitdirectory' in HTMLInputElement.prototype && matchMedia('(pointer: fine)').matches;

/**
 * Opens the folder picker.
 *
 * @param {HTMLInputElement} input with the attribute `webkitdirectory`
 * @returns {Promise<Source[]>} the files of the folder; empty when cancelled
 */
export function chooseFolder(input) {
  return openInput(input);
}

function openInput(input) {
  return new Promise((resolve) => {
    input.value = '';
    input.onchange = () => resolve(fromList(input.files));
    input.oncancel = () => resolve([]);
    input.click();
  });
}

/** @returns {Source[]} */
export function fromList(files) {
  return inOrder(Array.from(files, (file) => ({ file, path: file.webkitRelativePath })));
}

/** Sorts files by their paths, `2.jpg` before `10.jpg`. Those without a folder come first, as they were chosen. */
function inOrder(sources) {
  const { compare } = new Intl.Collator(undefined, { numeric: true });
  return sources.sort((a, b) => compare(a.path, b.path));
}

/**
 * Reads the files of a drop, including those in folders.
 *
 * @param {DataTransfer} transfer
 * @returns {Promise<{ sources: Source[], unreadable: number }>} at most one source more than `MAX_FILES`, to detect
 *   the excess, and the number of files and folders that could not be read
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
  const found = { sources: [], unreadable: 0 };
  for (const { file, entry, handle } of items) {
    if (entry?.isDirectory) await walk(entry, found);
    else if (file) found.sources.push({ file, path: '', handle: (await handle) ?? undefined });
    else found.unreadable += 1;
  }
  inOrder(found.sources);
  return found;
}

/** @returns {Promise<Source>} */
export async function fromHandle(handle) {
  return { file: await handle.getFile(), path: '', handle };
}

async function walk(directory, found) {
  const reader = directory.createReader();
  while (found.sources.length <= MAX_FILES) {
    let entries;
    try {
      // Returns the entries in batches, and none at the end.
      entries = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    } catch {
      found.unreadable += 1;
      return;
    }
    if (entries.length === 0) return;
    for (const entry of entries) {
      if (entry.isDirectory) await walk(entry, found);
      else await read(entry, found);
      if (found.sources.length > MAX_FILES) return;
    }
  }
}

async function read(entry, found) {
  try {
    const file = await new Promise((resolve, reject) => { entry.file(resolve, reject); });
    found.sources.push({ file, path: entry.fullPath.replace(/^\//, '') });
  } catch {
    found.unreadable += 1;
  }
}
