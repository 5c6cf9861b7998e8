// Nothing is cut off or pushed out of the page after a bad night, at any width.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';

import { KEY, Operator, gapOf, launch, start, test } from './harness.js';
import { answer, many } from './fixtures.js';
import { NOW } from './screenshots.js';

/** The colors change no box: they are checked with LANDFALL_LONG=1. */
const SCHEMES = process.env.LANDFALL_LONG ? ['light', 'dark'] : ['light'];

let browser;
let landfall;
before(async () => {
  browser = await launch();
  landfall = await start();
});
after(async () => {
  await browser?.close();
  await landfall?.stop();
});

/** What lies outside of the page or of the part that it is scrolled in sideways, and text wider than its box. */
function problems() {
  const found = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) found.push(`the page is ${root.scrollWidth} px wide`);
  for (const scroll of document.querySelectorAll('.scroll, .dead')) {
    if (scroll.checkVisibility() && scroll.scrollWidth > scroll.clientWidth) found.push(`${scroll.className} is ${scroll.scrollWidth} px wide in ${scroll.clientWidth}`);
  }
  for (const element of document.querySelectorAll('button, .button, .badge, td, tbody th, .error, .figures, header a')) {
    if (!element.checkVisibility() || getComputedStyle(element).clipPath !== 'none') continue;
    const box = element.getBoundingClientRect();
    const name = `${element.tagName.toLowerCase()} "${element.textContent.trim().slice(0, 30)}"`;
    const card = element.closest('.card')?.getBoundingClientRect() ?? { left: 0, right: root.clientWidth };
    if (box.left < card.left || box.right > card.right) found.push(`${name} leaves its card`);
    const isButton = element.matches('button, .button, .badge');
    if (isButton && element.scrollWidth > element.clientWidth + 1) found.push(`${name} is cut off`);
  }
  return found;
}

for (const width of [360, 768, 1024, 1280, 1440]) {
  for (const colorScheme of SCHEMES) {
    test(`nothing is cut off at ${width} px (${colorScheme})`, async () => {
      const operator = await Operator.arrive(browser, landfall, { viewport: { width, height: 900 }, colorScheme, bypassCSP: true });
      const { tab } = operator;
      await tab.clock.setFixedTime(NOW);
      await answer(tab, many());
      await operator.logIn(KEY);
      await operator.says(tab.locator('#dead'), /180 × post-finish/);
      await operator.says(tab.locator('#rows'), /camera/);
      assert.deepEqual(await tab.evaluate(problems), []);
      const height = await tab.locator('#dead').evaluate((list) => list.clientHeight);
      assert.ok(height <= 400, `the undelivered events take ${height} px`);
      const top = await tab.locator('#active').evaluate((heading) => heading.getBoundingClientRect().top + scrollY);
      assert.ok(top <= 1400, `the active uploads begin at ${top} px`);
      await tab.getByText('Show the events').first().click();
      await operator.says(tab.locator('#dead'), /The newest 50 of 180\./);
      const open = await tab.locator('#dead').evaluate((list) => {
        const [box, events] = [list, list.querySelector('details ul')].map((part) => part.getBoundingClientRect());
        return { height: box.height, seen: Math.min(box.bottom, events.bottom) - events.top };
      });
      assert.ok(open.seen >= 400 && open.height <= 900, `${open.seen} px of the events are visible, the list has ${open.height} px`);
      assert.deepEqual(await tab.evaluate(problems), [], 'with the events of a group');
      await tab.getByText('Show the events').first().click();
      if (width > 1024) {
        // Equal in all rows, or not.
        assert.equal(await tab.locator('#rows thead [data-label="Node"]').isVisible(), false);
        assert.equal(await tab.locator('#rows thead [data-label="Principal"]').isVisible(), true);
      }
      const name = tab.locator('#rows .name').filter({ hasText: 'camera' }).first();
      assert.match(await name.textContent(), /^a-very-long-name.*version-2\.mov$/, 'a copied name is whole');
      const [row, end] = await name.evaluate((link) => [link, link.lastElementChild].map((one) => one.getBoundingClientRect().right));
      assert.ok(end <= row + 1, 'the end of a name is visible');
      const room = await name.evaluate((link) => link.clientWidth);
      assert.ok(width < 768 || room >= 200, `a name has ${room} px`);
      const gap = await gapOf(name.locator(':first-child'));
      assert.ok(gap < 1, `a gap of ${gap} px in a name`);
      await name.click();
      await operator.says(tab.locator('#detail-events'), /post-finish/);
      assert.deepEqual(await tab.evaluate(problems), [], 'on the page of an upload');
      await operator.leave();
    });
  }
}

for (const width of [1280, 1440]) {
  test(`active uploads use the whole width, and a name that fits is not cut, at ${width} px`, async () => {
    const operator = await Operator.arrive(browser, landfall, { viewport: { width, height: 900 }, bypassCSP: true });
    const { tab } = operator;
    await tab.clock.setFixedTime(NOW);
    const { Uploads: { uploads }, ...rest } = many();
    const active = uploads.slice(0, 2).map((upload, at) => ({ ...upload, receiving: false, filename: `Board / recordings of the whole year / running-${at}.mp4` }));
    await answer(tab, { ...rest, Uploads: { uploads: active, next: null } });
    await operator.logIn(KEY);
    await operator.says(tab.locator('#live'), /running-0\.mp4/);
    const cut = await tab.locator('#live .cut').evaluateAll((links) => (
      links.filter(({ firstElementChild: start }) => start.scrollWidth > start.clientWidth).map(({ textContent }) => textContent)));
    assert.deepEqual(cut, []);
    const free = await tab.locator('#live').evaluate((list) => (
      list.getBoundingClientRect().right - Math.max(...Array.from(list.children, (card) => card.getBoundingClientRect().right))));
    assert.ok(free < 2, `${free} px are free`);
    await operator.leave();
  });
}
