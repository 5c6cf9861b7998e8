// Accessibility of the dashboard: keyboard, screen readers, phones, dark mode.

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { after, before } from 'node:test';

import { Application, KEY, MB, Operator, Upload, api, launch, start, test, testInBrowsers, until, violations } from './harness.js';

/** Directory for screenshots. */
const PICTURES = process.env.PICTURES;

const LONG = `minutes-of-the-annual-general-meeting-${'and-all-that-belongs-to-it-'.repeat(4)}.pdf`;

let browser;
let landfall;
let application;
const stops = [];
before(async () => {
  browser = await launch();
  application = await Application.start();
  landfall = await start(
    '-hooks-http', application.url, '-hooks-enabled-events', 'post-finish', '-hooks-http-retry', '0',
    '-events-retry-for', '1s',
  );
  for (const name of ['holiday.mp4', 'letter.pdf', LONG, 'song.flac']) await Upload.whole(landfall, name, 3 * MB);
  const cancelled = await Upload.create(landfall, 'mistake.iso', MB);
  const { body: { uploads: [{ id }] } } = await api(landfall, 'uploads?search=mistake');
  await api(landfall, `uploads/${id}`, { method: 'DELETE' });
  assert.ok([404, 410].includes(await cancelled.status()));
  await Upload.create(landfall, 'not-yet.zip', 700 * MB);
  for (const [name, rate] of [['backup.tar.zst', 2 * MB], [`under-way-${LONG}`, MB / 2]]) {
    const upload = await Upload.create(landfall, name, 2000 * MB);
    stops.push(upload.flow(rate), () => upload.request.destroy());
  }
  await until(async () => (await api(landfall, 'dead-letters')).body.events.length === 4, 'four dead letters');
});
after(async () => {
  for (const stop of stops) stop();
  await browser?.close();
  await landfall?.stop();
  await application?.stop();
});

/** Waits until every section is loaded. */
async function settled(operator) {
  await operator.says(operator.live('backup.tar.zst'), /Receiving.*left/s);
  await operator.says(operator.tab.locator('#dead'), /post-finish/);
  await operator.says(operator.tab.locator('#throughput-summary'), /in total/);
  await operator.says(operator.tab.locator('#keys'), /landfall keys add/);
  // On a phone, sections start folded.
  await operator.tab.locator('details.folds').evaluateAll((all) => { for (const section of all) section.open = true; });
}

async function picture(tab, name) {
  if (!PICTURES) return;
  await mkdir(PICTURES, { recursive: true });
  await tab.screenshot({ path: path.join(PICTURES, `${name}.png`), fullPage: true });
}

const DESKTOP = { viewport: { width: 1200, height: 800 } };
const PHONE = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
for (const [theme, options] of Object.entries({
  light: { ...DESKTOP, colorScheme: 'light' },
  dark: { ...DESKTOP, colorScheme: 'dark' },
  'phone-light': { ...PHONE, colorScheme: 'light' },
  'phone-dark': { ...PHONE, colorScheme: 'dark' },
})) {
  test(`axe finds no violations (${theme})`, async () => {
    const operator = await Operator.arrive(browser, landfall, options);
    const { tab } = operator;
    await operator.logIn('wrong');
    await operator.says(tab.getByRole('alert'), /Invalid admin key/);
    assert.deepEqual(await violations(operator.visitor), []);
    await picture(tab, `login-${theme}`);
    await operator.logIn(KEY);
    await settled(operator);
    assert.deepEqual(await violations(operator.visitor), []);
    await picture(tab, theme);
    await tab.getByText('Show as a table').click();
    await tab.getByRole('button', { name: 'Retry all' }).click();
    await tab.getByRole('dialog').waitFor();
    assert.deepEqual(await violations(operator.visitor), []);
    if (PICTURES) await tab.screenshot({ path: path.join(PICTURES, `dialog-${theme}.png`) });
    await tab.keyboard.press('Escape');
    for (const name of ['letter.pdf', 'backup.tar.zst']) {
      await operator.openDetail(name);
      await operator.says(tab.locator('#detail-data'), /Stored at/);
      if (name.startsWith('backup')) await tab.locator('#offsets svg').waitFor();
      assert.deepEqual(await violations(operator.visitor), []);
      await picture(tab, `detail-${theme}`);
      await tab.goBack();
    }
    await operator.leave();
  });
}

test('no horizontal overflow, and targets are at least 44 px high', async () => {
  for (const width of [320, 360, 768, 1920]) {
    const operator = await Operator.open(browser, landfall, {
      viewport: { width, height: 700 }, isMobile: width < 800, hasTouch: true,
    });
    await settled(operator);
    const measure = () => operator.tab.evaluate(() => ({
      wide: document.scrollingElement.scrollWidth - document.documentElement.clientWidth,
      small: [...document.querySelectorAll('button, input, select, summary, header a, .button')]
        .map((element) => ({ text: element.textContent, box: element.getBoundingClientRect() }))
        .filter(({ box }) => box.width > 0 && box.height < 44)
        .map(({ text, box }) => `${text} ${box.width}×${box.height}`),
    }));
    for (const name of [null, 'letter.pdf', LONG]) {
      if (name !== null) {
        await operator.openDetail(name);
        await operator.says(operator.tab.locator('#detail-data'), /Stored at/);
      }
      const { wide, small } = await measure();
      assert.equal(wide, 0, `at ${width} px the page is ${wide} px too wide (${name})`);
      assert.deepEqual(small, [], `at ${width} px`);
      if (name !== null) await operator.tab.goBack();
    }
    await operator.leave();
  }
});

testInBrowsers('all actions work with the keyboard', async () => {
  const upload = await Upload.create(landfall, 'by-keyboard.bin', MB);
  const operator = await Operator.arrive(browser, landfall, DESKTOP);
  const { tab } = operator;
  const { keyboard } = tab;
  const here = () => tab.evaluate(() => {
    const { activeElement: element } = document;
    return element.labels?.[0]?.textContent.trim() || element.textContent.trim() || element.id;
  });
  /** Presses Tab until the element has the focus; returns the elements focused before. */
  const reach = async (wanted, key = 'Tab') => {
    const way = [];
    for (let steps = 0; steps < 120; steps += 1) {
      await keyboard.press(key);
      way.push(await here());
      if (way.at(-1).startsWith(wanted)) return way;
    }
    return assert.fail(`${wanted} can't be reached: ${way.join(' | ')}`);
  };
  // The browser focuses the field at the first paint, which may be after the load event.
  await until(async () => (await here()) === 'Admin key', 'the focus to be in the field');
  await keyboard.type(KEY);
  await keyboard.press('Enter');
  await tab.getByRole('heading', { name: 'Active uploads' }).waitFor();
  await settled(operator);
  await operator.says(operator.live('by-keyboard.bin'), /Waiting/);

  const way = await reach('Log out');
  assert.match(way[0], /^Skip to the active uploads/);
  assert.deepEqual(await reach('All uploads'), [
    'Health', (await tab.locator('header nav li:nth-child(2)').textContent()).trim(), 'Active', 'All uploads',
  ]);
  const seen = await tab.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(seen, 'solid', 'the focus is seen');
  await reach('Cancel by-keyboard.bin');
  await keyboard.press('Enter');
  assert.equal(await here(), 'Keep uploading', 'the safe answer has the focus');
  await reach('Cancel the upload');
  await keyboard.press('Space');
  await operator.says(operator.live('by-keyboard.bin'), /Cancelled/);
  await operator.live('by-keyboard.bin').waitFor({ state: 'detached' });
  assert.notEqual(await tab.evaluate(() => document.activeElement.tagName), 'BODY', 'the focus isn’t lost');
  assert.ok([404, 410].includes(await upload.status()));

  await reach('Part of the name');
  await keyboard.type('by-key');
  await until(async () => (await tab.locator('#rows tbody tr').count()) === 1, 'the search result');
  await reach('State');
  await keyboard.press('ArrowDown');
  await operator.says(tab.locator('#rows-none'), /No matching uploads/);
  await reach('Retry all', 'Shift+Tab');
  await reach('Log out', 'Shift+Tab');
  await keyboard.press('Enter');
  await tab.getByLabel('Admin key').waitFor();
  await operator.leave();
});

test('screen readers get the same content', async () => {
  const operator = await Operator.open(browser, landfall, DESKTOP);
  const { tab } = operator;
  await settled(operator);
  const headings = await tab.locator('h1, h2').allTextContents();
  assert.deepEqual(headings.slice(0, 8), [
    'Landfall', 'Health', 'Undelivered events', 'Totals', 'Active uploads', 'All uploads', 'Throughput', 'Storage and keys',
  ]);
  for (const role of ['banner', 'main', 'contentinfo', 'search']) {
    assert.equal(await tab.getByRole(role).count(), 1, role);
  }
  assert.match(await tab.getByRole('img').last().textContent(), /Bytes received per second, each bar over 1 minute\. .* in total/);
  // Progress is not announced.
  const said = await tab.evaluate(() => new Promise((resolve) => {
    let changes = 0;
    const watcher = new MutationObserver(() => { changes += 1; });
    for (const place of document.querySelectorAll('[role="status"], [role="alert"], [aria-live]')) {
      watcher.observe(place, { childList: true, characterData: true, subtree: true });
    }
    setTimeout(() => resolve(changes), 4000);
  }));
  assert.equal(said, 0);
  await operator.leave();
});

test('on a phone, the table of uploads keeps its semantics', async () => {
  const operator = await Operator.open(browser, landfall, PHONE);
  const { tab } = operator;
  await settled(operator);
  const row = tab.getByRole('row').filter({ has: tab.getByRole('rowheader', { name: 'song.flac' }) });
  assert.equal(await row.getByRole('cell').count(), 3, 'without what is on the page of the upload');
  assert.ok(await tab.getByRole('columnheader', { name: 'Size' }).count() >= 1);
  await operator.leave();
});

test('animations are off with prefers-reduced-motion', async () => {
  const operator = await Operator.open(browser, landfall, { ...DESKTOP, reducedMotion: 'reduce' });
  await settled(operator);
  const moving = await operator.tab.evaluate(() => [...document.querySelectorAll('*')]
    .map((element) => getComputedStyle(element))
    .filter(({ transitionDuration, animationName }) => transitionDuration !== '0s' || animationName !== 'none').length);
  assert.equal(moving, 0);
  await operator.leave();
});

test('the page loads nothing from other origins', async () => {
  const context = await browser.newContext();
  const asked = new Set();
  context.on('request', (request) => asked.add(new URL(request.url()).origin));
  const tab = await context.newPage();
  await tab.goto(`${landfall.origin}/admin`);
  await tab.getByLabel('Admin key').fill(KEY);
  await tab.getByRole('button', { name: 'Log in' }).click();
  await tab.getByText('Show as a table').click();
  await until(() => tab.locator('#rows tbody tr').count(), 'uploads');
  assert.deepEqual([...asked], [landfall.origin]);
  await context.close();
});
