// Cuts long names in the middle, on the upload page and on the dashboard.

const canvas = document.createElement('canvas').getContext('2d');

/**
 * Returns the width of the start of a name, cut at a character, before its end, which is never cut; null if all of it fits in.
 *
 * CSS alone would leave a gap after the ellipsis, as wide as a part of a character.
 *
 * @param {HTMLElement} start with `text-overflow: ellipsis`
 * @param {number} room available width in pixels
 */
export function cutWidth(start, room) {
  if (start.scrollWidth <= room) return null;
  canvas.font = getComputedStyle(start).font;
  const letters = [...start.textContent];
  const shown = (count) => canvas.measureText(`${letters.slice(0, count).join('')}…`).width;
  let [fits, excess] = [0, letters.length];
  while (excess - fits > 1) {
    const middle = (fits + excess) >> 1;
    if (shown(middle) <= room) fits = middle;
    else excess = middle;
  }
  return Math.min(room, Math.ceil(shown(fits)));
}
