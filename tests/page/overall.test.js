// Many files: the summary, the order of the rows, and what is done with all of them.

import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before } from 'node:test';

import { Landfall, Visitor, gapOf, launch, test, until } from './harness.js';

let browser;
let landfall;
before(async () => {
  browser = await launch();
  landfall = await Landfall.start('-max-size', '20000000');
});
after(async () => {
  await browser?.close();
  await landfall?.stop();
});

const files = (prefix, sizes) => Promise.all(sizes.map((size, at) => landfall.file(`${prefix}${at}.bin`, size)));

/** Waits until a line of the summary matches. */
async function says(visitor, id, pattern) {
  const line = visitor.tab.locator(`#${id}`);
  await until(async () => pattern.test(await line.textContent()), async () => `${pattern}, but #${id} says ${await line.textContent()}`);
}

/** Holds the creation of uploads, until the result is called. */
async function hold(visitor) {
  let start;
  const started = new Promise((resolve) => { start = resolve; });
  await visitor.tab.route(landfall.endpoint, async (route) => {
    await started;
    await route.fallback();
  });
  return start;
}

/** Rejects the creation of some files. */
async function reject(visitor, ...names) {
  const known = names.map((name) => Buffer.from(name).toString('base64'));
  await visitor.tab.route(landfall.endpoint, async (route) => {
    const metadata = route.request().headers()['upload-metadata'] ?? '';
    if (known.some((name) => metadata.includes(name))) await route.fulfill({ status: 403, body: 'no', contentType: 'text/plain' });
    else await route.fallback();
  });
}

test('the summary counts what runs, what is queued and what failed', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  await visitor.slow(1_000_000);
  await visitor.choose(await files('count', [8e6, 8e6, 8e6, 8e6, 8e6, 20_000_001]));
  await says(visitor, 'overall', /^0 of 6 files uploaded · 3 running · 2 queued · 1 failed$/);
  await says(visitor, 'amount', /^[\d.]+ [kM]B of 40 MB · [\d.]+ [kM]B\/s · .* left$/);
  assert.equal(await visitor.tab.getByRole('progressbar', { name: 'Uploads' }).count(), 1);
  await visitor.slow();
  await says(visitor, 'overall', /^5 of 6 files uploaded · 1 failed$/);
  await says(visitor, 'amount', /^$/);
  assert.equal(await visitor.tab.locator('#total').isVisible(), false);
  await visitor.leave();
});

test('all chosen files count from the start', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const { tab } = visitor;
  const chosen = await files('start', [...Array(12).fill(1000), 20_000_001]);
  await visitor.choose(chosen.slice(0, 2));
  await says(visitor, 'overall', /^2 of 2 files uploaded$/);
  await tab.evaluate(() => {
    // A slow device: the page draws while it adds files.
    const { setItem } = Storage.prototype;
    Storage.prototype.setItem = function slowly(...args) {
      for (const end = performance.now() + 20; performance.now() < end;);
      return setItem.apply(this, args);
    };
    globalThis.lines = [];
    new MutationObserver(() => {
      globalThis.lines.push(['overall', 'amount'].map((id) => document.getElementById(id).textContent).join(' · '));
    }).observe(document.getElementById('overall'), { childList: true, subtree: true, characterData: true });
  });
  await hold(visitor);
  await visitor.choose(chosen);
  // Two of them were uploaded before.
  await says(visitor, 'overall', /^2 of 13 files uploaded · 3 running · 7 queued · 1 failed$/);
  const lines = await tab.evaluate(() => globalThis.lines);
  assert.ok(lines.length > 3, `${lines}`);
  for (const line of lines) assert.match(line, /^2 of 13 files uploaded · .* of 10 kB/);
  await visitor.leave();
});

test('the total in the title and in the icon never goes backwards', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  await visitor.tab.evaluate(() => {
    globalThis.titles = [];
    globalThis.icons = [];
    new MutationObserver(() => {
      globalThis.titles.push(document.title);
      globalThis.icons.push(document.querySelector('link[rel=icon]').href);
    }).observe(document.head, { childList: true, subtree: true, attributes: true, characterData: true });
  });
  await visitor.slow(1_000_000);
  await visitor.choose(await files('total', [200_000, 400_000, 600_000, 800_000, 1_000_000, 1_200_000]));
  await visitor.row('total1.bin').is('done');
  await visitor.tab.getByRole('button', { name: 'Clear finished' }).click();
  await says(visitor, 'overall', /^6 of 6 files uploaded$/);
  await until(async () => (await visitor.tab.title()) === 'Landfall', 'the plain title');
  const { titles, icons } = await visitor.tab.evaluate(() => ({ titles: globalThis.titles, icons: globalThis.icons }));
  const totals = titles.filter((title) => title !== 'Landfall').map((title) => Number(/^(\d+)% – Landfall$/.exec(title)[1]));
  assert.deepEqual(totals, totals.toSorted((a, b) => a - b));
  assert.ok(new Set(totals).size > 5 && totals.at(-1) > 80, `${totals}`);
  assert.ok(new Set(icons.filter((icon) => icon.startsWith('data:image/svg+xml,'))).size > 5, `${icons.length} icons`);
  assert.match(icons.at(-1), /icon\.svg$/);
  await visitor.leave();
});

test('the total of new files does not begin with the bytes of finished ones', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  await visitor.choose(await files('old', [9_000_000, 9_000_000]));
  await says(visitor, 'overall', /^2 of 2 files uploaded$/);
  await visitor.tab.getByRole('button', { name: 'Clear finished' }).click();
  await visitor.choose(await files('older', [9_000_000]));
  await says(visitor, 'overall', /^1 of 1 file uploaded$/);
  const start = await hold(visitor);
  await visitor.choose(await files('new', [1_000_000]));
  await says(visitor, 'amount', /^0 bytes of 1 MB/);
  assert.match(await visitor.tab.title(), /^0% – /);
  await says(visitor, 'overall', /^1 of 2 files uploaded · 1 running$/);
  start();
  await says(visitor, 'overall', /^2 of 2 files uploaded$/);
  await visitor.leave();
});

test('running rows come first, then failed and queued ones; finished ones are folded', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const rows = () => visitor.tab.locator('.upload').evaluateAll((all) => all.map(({ dataset }) => dataset.state));
  const fold = visitor.tab.locator('#fold');
  await reject(visitor, 'order1.bin');
  await visitor.slow(400_000);
  await visitor.choose(await files('order', Array(10).fill(300_000)));
  await visitor.row('order1.bin').is('failed');
  await visitor.row('order5.bin').is('uploading');
  await until(async () => {
    const states = (await rows()).join(' ').replaceAll(/creating|checking/g, 'uploading');
    return /^(uploading )+failed (queued ?)+( done)*$/.test(states);
  }, async () => `the order, but it is ${await rows()}`);
  const positions = await visitor.tab.locator('#list .upload').evaluateAll((all) => all.map((row) => row.getBoundingClientRect().top));
  assert.deepEqual(positions, positions.toSorted((a, b) => a - b));
  await visitor.slow();
  await until(async () => (await fold.textContent()) === '9 uploaded', 'the line of the finished');
  assert.deepEqual(await rows(), ['failed']);
  assert.equal(await fold.getAttribute('aria-expanded'), 'false');
  await fold.press('Enter');
  await visitor.row('order9.bin').is('done');
  assert.equal(await fold.getAttribute('aria-expanded'), 'true');
  assert.equal((await rows()).length, 10);
  await fold.press('Enter');
  assert.deepEqual(await rows(), ['failed']);
  await visitor.leave();
});

test('after a reload, the summary still counts what was uploaded before', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const { tab } = visitor;
  await visitor.choose(await files('before', Array(6).fill(2_000_000)));
  await says(visitor, 'overall', /^6 of 6 files uploaded$/);
  await visitor.slow(200_000);
  await visitor.choose(await files('after', Array(4).fill(1_000_000)));
  await says(visitor, 'overall', /^6 of 10 files uploaded · 3 running · 1 queued$/);
  await until(() => tab.evaluate(() => (
    Object.values(localStorage).filter((record) => JSON.parse(record).copied).length === 4
  )), 'the copies');
  await tab.addInitScript(() => {
    globalThis.titles = [];
    new MutationObserver(() => globalThis.titles.push(document.title)).observe(document, { childList: true, subtree: true, characterData: true });
  });
  await tab.reload();
  await says(visitor, 'overall', /^6 of 10 files uploaded · 3 running · 1 queued$/);
  await says(visitor, 'amount', /^[\d.]+ MB of 16 MB( · |$)/);
  assert.equal(await tab.locator('#fold').textContent(), '6 uploaded');
  await visitor.slow();
  await says(visitor, 'overall', /^10 of 10 files uploaded$/);
  await until(async () => (await tab.locator('#fold').textContent()) === '10 uploaded', 'the line of the finished');
  const totals = (await tab.evaluate(() => globalThis.titles)).map((title) => /^(\d+)% – /.exec(title)?.[1]).filter(Boolean).map(Number);
  assert.ok(totals.length > 0 && totals.every((total) => total >= 75), `12 MB of 16 MB were uploaded before, but the title said ${totals} %`);
  // What is cleared no longer counts, once nothing is left.
  await tab.getByRole('button', { name: 'Clear finished' }).click();
  await says(visitor, 'overall', /^$/);
  await visitor.leave();
});

test('a row keeps the focus wherever its state moves it', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const focused = () => visitor.tab.evaluate(() => document.activeElement.textContent);
  const start = await hold(visitor);
  await visitor.choose(await files('focus', Array(7).fill(1_000_000)));
  const last = visitor.row('focus6.bin');
  await last.is('queued');
  await last.button('Pause').focus();
  await last.press('Pause');
  await last.is('paused');
  await until(() => visitor.tab.evaluate(() => document.querySelectorAll('#list .upload')[3].dataset.state === 'paused'), 'the new place');
  assert.equal(await focused(), 'Continue focus6.bin');
  await last.press('Continue');
  start();
  // All are finished and folded: the focus goes to the line that unfolds them.
  await until(async () => (await focused()) === '7 uploaded', async () => `the focus to move on from ${await focused()}`);
  await visitor.leave();
});

test('all uploads are paused and resumed, and all failed ones retried', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const button = (name) => visitor.tab.getByRole('button', { name, exact: true });
  const buttons = () => visitor.tab.locator('.bulk button:visible').allTextContents();
  await reject(visitor, 'bulk1.bin', 'bulk2.bin');
  await visitor.slow(400_000);
  await visitor.choose(await files('bulk', Array(8).fill(2_000_000)));
  await says(visitor, 'overall', /^0 of 8 files uploaded · 3 running · 3 queued · 2 failed$/);
  assert.deepEqual(await buttons(), ['Pause all', 'Retry all failed', 'Cancel all']);
  await button('Pause all').press('Enter');
  await says(visitor, 'overall', /^0 of 8 files uploaded · 6 paused · 2 failed$/);
  assert.equal(await visitor.tab.title(), 'Landfall');
  assert.equal(await visitor.tab.evaluate(() => document.activeElement.textContent), 'Resume all');
  const before = visitor.requests.length;
  await new Promise((resolve) => { setTimeout(resolve, 1500); });
  assert.equal(visitor.requests.length, before, 'paused uploads must be silent');
  await visitor.tab.unroute(landfall.endpoint);
  await visitor.slow();
  await button('Retry all failed').click();
  await says(visitor, 'overall', /^2 of 8 files uploaded · 6 paused$/);
  assert.deepEqual(await buttons(), ['Resume all', 'Cancel all']);
  await button('Resume all').click();
  await says(visitor, 'overall', /^8 of 8 files uploaded$/);
  assert.deepEqual(await buttons(), []);
  await visitor.leave();
});

test('all unfinished uploads are cancelled, if the user confirms it', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const cancel = visitor.tab.getByRole('button', { name: 'Cancel all', exact: true });
  await visitor.choose(await files('kept', [1_000]));
  await says(visitor, 'overall', /^1 of 1 files? uploaded$/);
  const before = await landfall.count();
  await visitor.slow(400_000);
  await visitor.choose(await files('cancelled', Array(8).fill(2_000_000)));
  await says(visitor, 'overall', /^1 of 9 files uploaded · 3 running · 5 queued$/);
  await until(async () => (await landfall.count()) === before + 3, 'three uploads on the server');
  const questions = [];
  const respond = async (isYes) => {
    visitor.tab.once('dialog', async (dialog) => {
      questions.push(dialog.message());
      await (isYes ? dialog.accept() : dialog.dismiss());
    });
    await cancel.click();
  };
  await respond(false);
  await says(visitor, 'overall', /^1 of 9 files uploaded · 3 running · 5 queued$/);
  await respond(true);
  await says(visitor, 'overall', /^1 of 1 files? uploaded$/);
  assert.deepEqual(questions, Array(2).fill('Cancel 8 uploads? Their stored data is deleted.'));
  await until(async () => (await landfall.count()) === before, 'the stored data to be deleted');
  await until(() => cancel.isHidden(), 'the button to go');
  await visitor.leave();
});

test('files of a folder are uploaded in the order of their names', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const folder = path.join(landfall.dir, 'pictures');
  await mkdir(path.join(folder, 'more'), { recursive: true });
  const names = ['more/pic1.jpg', 'pic1.jpg', 'pic2.jpg', 'pic3.jpg', 'pic10.jpg', 'pic20.jpg'];
  for (const name of names.toReversed()) await writeFile(path.join(folder, name), name);
  const start = await hold(visitor);
  await visitor.drop(folder);
  await says(visitor, 'overall', /^0 of 6 files uploaded · 3 running · 3 queued$/);
  // Of the first ones, any three may run: those whose lock the browser grants first.
  const shown = await visitor.tab.locator('.upload').evaluateAll((rows) => rows.map((row) => (
    { isQueued: row.dataset.state === 'queued', name: row.querySelector('h3').textContent })));
  const wanted = names.map((name) => `pictures/${name}`);
  for (const isQueued of [false, true]) {
    const group = shown.filter((row) => row.isQueued === isQueued).map(({ name }) => name);
    assert.equal(group.length, 3);
    assert.deepEqual(group, wanted.filter((name) => group.includes(name)));
  }
  start();
  await says(visitor, 'overall', /^6 of 6 files uploaded$/);
  await visitor.leave();
});

test('a long name is cut in the middle', async () => {
  for (const width of [360, 768, 1440]) {
    const visitor = await Visitor.open(browser, landfall.page, { viewport: { width, height: 700 } });
    const name = `minutes-of-the-annual-general-meeting-${'and-everything-else-'.repeat(8)}final.docx`;
    await visitor.choose(await landfall.file(name, 100));
    const row = await visitor.row(name).is('done');
    const parts = await row.element.locator('.file > *').evaluateAll((all) => all.map((part) => (
      { text: part.textContent, isCut: part.scrollWidth > part.clientWidth })));
    assert.equal(parts.map(({ text }) => text).join(''), name);
    assert.match(parts[1].text, /-final\.docx$/);
    assert.deepEqual(parts.map(({ isCut }) => isCut), [true, false], `at ${width} px`);
    const gap = await gapOf(row.element.locator('.stem'));
    assert.ok(gap < 1, `a gap of ${gap} px at ${width} px`);
    const spaced = `board ${'meeting of the members '.repeat(8)}in ab cd.mp4`;
    await visitor.choose(await landfall.file(spaced, 100));
    const second = await visitor.row(spaced).is('done');
    assert.deepEqual(await second.element.locator('.file > *').allTextContents(), [spaced.slice(0, -9), 'ab cd.mp4']);
    await visitor.leave();
  }
});

test('a note about many files that are in the list names some of them', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const again = await files('again', Array(4).fill(100));
  const start = await hold(visitor);
  await visitor.choose(again);
  await says(visitor, 'overall', /^0 of 4 files uploaded · 3 running · 1 queued$/);
  await visitor.choose(again);
  await says(visitor, 'note-text', /^4 files are already in the list \(again0\.bin, again1\.bin, again2\.bin, …\)\.$/);
  start();
  await says(visitor, 'overall', /^4 of 4 files uploaded$/);
  await visitor.leave();
});
