// Compares screenshots with committed ones. UPDATE_SCREENSHOTS=1 writes them.

import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';

import pixelmatch from 'pixelmatch';
import { PNG } from 'pngjs';

/** The share of pixels that may differ: another version of the browser draws letters differently. */
const TOLERANCE = 0.01;

/** The time on the page. */
export const NOW = new Date('2026-03-14T15:09:26Z');

const SIZES = [[360, 740], [768, 1024], [1024, 768], [1280, 800], [1440, 900]];

const ALL = SIZES.flatMap(([width, height]) => ['light', 'dark'].map((colorScheme) => [`${width}-${colorScheme}`, {
  viewport: { width, height }, colorScheme, locale: 'en-US', timezoneId: 'UTC', reducedMotion: 'reduce', bypassCSP: true,
}]));

/**
 * The contexts in which pages are compared, by the names of their pictures: a telephone in the dark and a large screen,
 * or every width in both color schemes to write them and with LANDFALL_LONG=1.
 */
export const VIEWS = process.env.LANDFALL_LONG || process.env.UPDATE_SCREENSHOTS
  ? ALL
  : ALL.filter(([view]) => ['360-dark', '1440-light'].includes(view));

/** Fonts that every machine with the tests has, and no caret. */
const STYLE = '* { font-family: "DejaVu Sans" !important; caret-color: transparent !important; }';

/** Half the size and 16 levels per color: small files, without the finest differences between letters. */
function reduce({ width, height, data }) {
  const small = new PNG({ width: Math.floor(width / 2), height: Math.floor(height / 2) });
  for (let y = 0; y < small.height; y += 1) {
    for (let x = 0; x < small.width; x += 1) {
      for (let channel = 0; channel < 4; channel += 1) {
        const at = (y * 2 * width + x * 2) * 4 + channel;
        const mean = (data[at] + data[at + 4] + data[at + width * 4] + data[at + width * 4 + 4]) / 4;
        small.data[(y * small.width + x) * 4 + channel] = Math.round(mean / 17) * 17;
      }
    }
  }
  return small;
}

/** Compares the page in a tab with the picture `name` in a folder. */
export async function compare(tab, folder, name) {
  await tab.addStyleTag({ content: STYLE });
  await tab.evaluate(() => new Promise((resolve) => { requestAnimationFrame(() => requestAnimationFrame(resolve)); }));
  const file = path.join(folder, `${name}.png`);
  const taken = reduce(PNG.sync.read(await tab.screenshot({ fullPage: true, animations: 'disabled' })));
  if (process.env.UPDATE_SCREENSHOTS) {
    await mkdir(folder, { recursive: true });
    await writeFile(file, PNG.sync.write(taken, { colorType: 2, deflateLevel: 9 }));
    return;
  }
  const wanted = PNG.sync.read(await readFile(file));
  const { width, height } = wanted;
  const difference = new PNG({ width, height });
  const isSame = taken.width === width && taken.height === height;
  const pixels = isSame ? pixelmatch(wanted.data, taken.data, difference.data, width, height, { threshold: 0.2 }) : Infinity;
  if (pixels <= TOLERANCE * width * height) return;
  const failed = path.join(process.env.PICTURES ?? '/tmp', `landfall-${name}`);
  await writeFile(`${failed}-taken.png`, PNG.sync.write(taken));
  await writeFile(`${failed}-difference.png`, PNG.sync.write(difference));
  assert.fail(`${name} is ${taken.width}×${taken.height} and differs in ${pixels} pixels from ${width}×${height}: see ${failed}-*.png`);
}
