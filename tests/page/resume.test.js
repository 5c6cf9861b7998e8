// Uploads that outlive the page: after a reload, in another tab, and when the server forgot them.

import assert from 'node:assert/strict';
import { appendFile, rename } from 'node:fs/promises';
import path from 'node:path';
import { after, before } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Landfall, Visitor, hashOf, launch, test, testInBrowsers, until } from './harness.js';

const MiB = 2 ** 20;

/** Above what the page keeps as a copy. */
const LARGE = 80 * MiB;

let browser;
let landfall;
before(async () => {
  browser = await launch();
  landfall = await Landfall.start();
});
after(async () => {
  await browser?.close();
  await landfall?.stop();
});

/** Starts an upload so slowly that it takes half a minute or more, and waits until it is running. */
async function begin(visitor, file, rate) {
  // Chromium does not slow what it is sending already, so this cannot follow later.
  await visitor.slow(rate / 4);
  await visitor.choose(file);
  const row = visitor.row(path.basename(file));
  await row.midway(0.05);
  return row;
}

/** The upload must have gone on, not begun anew, and be whole. */
async function assertResumed(visitor, row, file) {
  await visitor.slow();
  await row.is('done');
  assert.equal(visitor.sent('POST').length, 1);
  assert.ok(Number(visitor.sent('PATCH').at(-1).headers['upload-offset']) > 0, 'it began anew');
  assert.equal(await landfall.stored(await row.url()), await hashOf(file));
}

/** Holds the requests to uploads until the function that it resolves to is called. */
async function hold(visitor) {
  let release;
  const released = new Promise((resolve) => { release = resolve; });
  const uploads = `${landfall.endpoint}*`;
  await visitor.tab.route(uploads, (route) => {
    // The driver may have continued it already, since the route is gone.
    released.then(() => route.continue()).catch(() => {});
  });
  return async () => {
    // The driver would read the content of each later request.
    await visitor.tab.unroute(uploads);
    release();
  };
}

testInBrowsers('a small file resumes automatically after a reload', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const file = await landfall.file('small.bin', 12 * MiB);
  const row = await begin(visitor, file, 1.5 * MiB);
  await until(() => visitor.tab.evaluate(() => (
    Object.values(localStorage).some((text) => JSON.parse(text).copied)
  )), 'the copy');
  await visitor.tab.reload();
  await row.is('uploading', 'checking', 'done');
  await assertResumed(visitor, row, file);
  // The stored copy is no longer needed.
  const kept = () => visitor.tab.evaluate(() => new Promise((resolve, reject) => {
    const opening = indexedDB.open('landfall', 1);
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const asked = opening.result.transaction('sources').objectStore('sources').count();
      asked.onsuccess = () => { opening.result.close(); resolve(asked.result); };
    };
  }));
  await until(async () => (await kept()) === 0, 'the copy to be dropped');
  await visitor.leave();
});

testInBrowsers('a large file resumes after a reload when the same file is chosen', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const file = await landfall.file('large.bin', LARGE);
  let row = await begin(visitor, file, 8 * MiB);
  await visitor.tab.reload();
  row = await visitor.row('large.bin').is('needs-file');
  assert.match(await row.status(), /^[\d.]+ MB of 83\.9 MB are on the server\. Choose or drop “large\.bin” again/);

  const other = await landfall.file('large2.bin', LARGE);
  await visitor.choose(other, row.button('Choose file'));
  await visitor.tab.getByText('That is not the same “large.bin”').first().waitFor();
  await row.is('needs-file');

  await visitor.choose(file, row.button('Choose file'));
  await assertResumed(visitor, row, file);
  await visitor.leave();
});

test('a file that is chosen again while its upload is restored resumes it', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const file = await landfall.file('early.bin', LARGE);
  await begin(visitor, file, 8 * MiB);
  const release = await hold(visitor);
  await visitor.tab.reload();
  const row = await visitor.row('early.bin').is('restoring');
  await visitor.choose(file);
  await sleep(500);
  await row.is('restoring');
  await release();
  await assertResumed(visitor, row, file);
  assert.doesNotMatch(await visitor.tab.locator('#note-text').textContent(), /already/);
  assert.equal(await visitor.tab.locator('.upload').count(), 1);
  await visitor.leave();
});

test('a file that is chosen again while its upload is restored begins anew if the server no longer has it', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const file = await landfall.file('gone.bin', LARGE);
  await begin(visitor, file, 8 * MiB);
  const url = await visitor.tab.evaluate(() => (
    Object.values(localStorage).map((text) => JSON.parse(text)).find(({ name }) => name === 'gone.bin').url
  ));
  const release = await hold(visitor);
  await visitor.tab.reload();
  const row = await visitor.row('gone.bin').is('restoring');
  await visitor.choose(file);
  await fetch(url, { method: 'DELETE', headers: { 'Tus-Resumable': '1.0.0' } });
  await release();
  await visitor.slow();
  await row.is('done');
  assert.notEqual(await row.url(), url);
  assert.equal(await landfall.stored(await row.url()), await hashOf(file));
  await visitor.leave();
});

test('choosing the same file again with the main button resumes it', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const file = await landfall.file('again.bin', LARGE);
  await begin(visitor, file, 8 * MiB);
  await visitor.tab.reload();
  const row = await visitor.row('again.bin').is('needs-file');
  await visitor.choose(file);
  await assertResumed(visitor, row, file);
  assert.equal(await visitor.tab.locator('.upload').count(), 1);
  await visitor.leave();
});

test('a large file with a handle resumes automatically after a reload', async () => {
  const visitor = await Visitor.open(browser, landfall.page, { picker: true });
  // The picker's dialog can't be driven; a handle into the browser's own file system is a real one.
  await visitor.context.addInitScript(() => {
    window.showOpenFilePicker = async () => {
      const root = await navigator.storage.getDirectory();
      return [await root.getFileHandle('handled.bin')];
    };
  });
  await visitor.tab.reload();
  await visitor.tab.evaluate(async (size) => {
    const root = await navigator.storage.getDirectory();
    const stream = await (await root.getFileHandle('handled.bin', { create: true })).createWritable();
    const piece = new Uint8Array(2 ** 20);
    for (let at = 0; at < size; at += piece.length) {
      piece.fill(at / piece.length);
      await stream.write(piece);
    }
    await stream.close();
  }, LARGE);
  await visitor.slow(8 * MiB);
  await visitor.tab.getByRole('button', { name: 'Choose files' }).click();
  const row = visitor.row('handled.bin');
  await row.midway(0.1);
  await visitor.tab.reload();
  await row.is('uploading', 'checking', 'done');
  await visitor.slow();
  await row.is('done');
  assert.equal(visitor.sent('POST').length, 1);
  assert.ok(Number(visitor.sent('PATCH').at(-1).headers['upload-offset']) > 0, 'it began anew');
  const bytes = Buffer.from(await (await fetch(await row.url())).arrayBuffer());
  assert.equal(bytes.length, LARGE);
  for (let at = 0; at < LARGE; at += MiB / 2) assert.equal(bytes[at], Math.floor(at / MiB), `byte ${at}`);
  await visitor.leave();
});

test('without read permission, one click resumes', async () => {
  const visitor = await Visitor.open(browser, landfall.page, { picker: true });
  await visitor.context.addInitScript(() => {
    window.showOpenFilePicker = async () => {
      const root = await navigator.storage.getDirectory();
      const handle = await root.getFileHandle('leave.bin', { create: true });
      const stream = await handle.createWritable();
      await stream.write(new Uint8Array(6 * 2 ** 20).fill(7));
      await stream.close();
      return [handle];
    };
    let leave = 'prompt';
    FileSystemFileHandle.prototype.queryPermission = async () => leave;
    FileSystemFileHandle.prototype.requestPermission = async () => { leave = 'granted'; return leave; };
  });
  await visitor.tab.reload();
  await visitor.slow(MiB / 2);
  await visitor.tab.getByRole('button', { name: 'Choose files' }).click();
  const row = visitor.row('leave.bin');
  await row.midway(0.1);
  await visitor.tab.reload();
  await row.is('needs-permission');
  await visitor.slow();
  await row.press('Resume');
  await row.is('done');
  assert.equal(visitor.sent('POST').length, 1);
  await visitor.leave();
});

test('files dropped from the desktop go on after a reload, with at most one press', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const file = await landfall.file('desktop.bin', LARGE);
  await visitor.slow(8 * MiB);
  await visitor.drop(file);
  const row = visitor.row('desktop.bin');
  await row.midway(0.1);
  await visitor.tab.reload();
  await row.is('uploading', 'checking', 'needs-permission', 'needs-file');
  // Whether leave to read lasts over a reload is the browser's choice.
  if ((await row.state()).startsWith('needs-')) await visitor.drop(file);
  await assertResumed(visitor, row, file);
  await visitor.leave();
});

test('after a reload paused uploads stay paused, waiting ones resume, finished ones stay listed', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const names = ['p1.bin', 'p2.bin', 'p3.bin', 'p4.bin'];
  const files = await Promise.all(names.map((name) => landfall.file(name, 6 * MiB)));
  const small = await landfall.file('p0.bin', 10);
  await visitor.choose(small);
  await visitor.row('p0.bin').is('done');
  await visitor.slow(MiB);
  await visitor.choose(files);
  const [first, second, third, fourth] = names.map((name) => visitor.row(name));
  await fourth.is('queued');
  await first.midway(0.1);
  await first.press('Pause');
  await first.is('paused');
  await until(() => visitor.tab.evaluate(() => (
    Object.values(localStorage).filter((text) => JSON.parse(text).copied).length === 4
  )), 'the copies');
  await visitor.tab.reload();
  await visitor.slow();
  for (const row of [second, third, fourth]) await row.is('done');
  assert.equal(await first.state(), 'paused');
  await first.press('Continue');
  await first.is('done');
  for (const [at, name] of names.entries()) {
    assert.equal(await landfall.stored(await visitor.row(name).url()), await hashOf(files[at]), name);
  }
  assert.equal(visitor.sent('POST').length, 5);

  await visitor.row('p0.bin').press('Clear');
  await visitor.row('p0.bin').is('gone');
  await visitor.tab.reload();
  await first.is('done');
  assert.equal(await visitor.row('p0.bin').state(), 'gone');
  const url = await first.url();
  await visitor.tab.getByRole('button', { name: 'Clear finished' }).click();
  assert.equal(await visitor.tab.locator('.upload').count(), 0);
  await visitor.tab.reload();
  assert.equal(await visitor.tab.locator('.upload').count(), 0);
  assert.equal((await landfall.head(url)).status, 200, 'clearing the list must not remove the upload');
  await visitor.leave();
});

test('only one tab works on an upload; the other resumes it when the first is closed', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const file = await landfall.file('tabs.bin', 24 * MiB);
  await begin(visitor, file, MiB);
  await until(() => visitor.tab.evaluate(() => (
    Object.values(localStorage).some((text) => JSON.parse(text).copied)
  )), 'the copy');
  const second = await Visitor.join(visitor.context, landfall.page);
  const row = await second.row('tabs.bin').is('in-other-tab');
  assert.match(await row.status(), /^Another tab is uploading this\./);
  await second.tab.locator('#overall', { hasText: /^0 of 1 file uploaded · 1 in another tab$/ }).waitFor();
  assert.equal(second.sent('PATCH').length, 0);
  // Chromium's limit of the rate ends with the tab. The server stands still until the request is aborted, so that the
  // rest does not arrive before.
  if (!visitor.proxy) landfall.process.kill('SIGSTOP');
  await visitor.tab.close();
  if (!visitor.proxy) {
    await sleep(1000);
    landfall.process.kill('SIGCONT');
  }
  // The proxy would slow this tab, too.
  await second.slow();
  await row.is('done');
  assert.equal(second.sent('POST').length, 0);
  assert.ok(Number(second.sent('PATCH')[0].headers['upload-offset']) > 0);
  assert.equal(await landfall.stored(await row.url()), await hashOf(file));
  assert.deepEqual(visitor.complaints, []);
  await second.leave();
});

test('an upload finished in one tab is finished in the other', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const second = await Visitor.join(visitor.context, landfall.page);
  const file = await landfall.file('both.bin', 8 * MiB);
  await begin(visitor, file, MiB);
  await second.choose(file);
  const row = await second.row('both.bin').is('in-other-tab');
  await visitor.slow();
  await visitor.row('both.bin').is('done');
  await row.is('done');
  assert.equal(second.sent('PATCH').length, 0);
  assert.equal(second.sent('POST').length, 0);
  assert.equal(await row.url(), await visitor.row('both.bin').url());
  assert.deepEqual(visitor.complaints, []);
  await second.leave();
});

test('what the server no longer has leaves the list', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  await visitor.choose(await landfall.file('expired.bin', 1000));
  const row = await visitor.row('expired.bin').is('done');
  await fetch(await row.url(), { method: 'DELETE', headers: { 'Tus-Resumable': '1.0.0' } });
  await visitor.tab.reload();
  // Right after the reload the list is empty as well.
  await until(() => visitor.tab.evaluate(() => localStorage.length === 0), 'the upload to be forgotten');
  await row.is('gone');
  await visitor.leave();
});

testInBrowsers('files that were uploaded before are recognized, also after a reload', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const note = visitor.tab.locator('#note-text');
  const names = ['known0.bin', 'known1.bin', 'known2.bin'];
  const files = await Promise.all(names.map((name) => landfall.file(name, 1000)));
  await visitor.choose(files);
  for (const name of names) await visitor.row(name).is('done');
  await visitor.tab.getByRole('button', { name: 'Clear finished' }).click();
  await visitor.tab.reload();
  await visitor.tab.locator('main[hidden]').waitFor({ state: 'detached' });
  const sent = visitor.sent('POST').length;
  await visitor.choose([...files, await landfall.file('fresh.bin', 1000)]);
  await visitor.row('fresh.bin').is('done');
  assert.equal(await note.textContent(), '3 files were uploaded before. 1 is new.');
  assert.equal(visitor.sent('POST').length, sent + 1);
  await visitor.choose(files[0]);
  await until(async () => /^known0\.bin was uploaded before \(\w+ \d+, \d{4}\)\.$/.test(await note.textContent()), () => note.textContent());
  await visitor.tab.getByRole('button', { name: 'Upload again' }).click();
  await visitor.row('known0.bin').is('done');
  assert.equal(visitor.sent('POST').length, sent + 2);
  await visitor.leave();
});

test('of the uploaded files, the oldest are forgotten', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const known = await visitor.tab.evaluate(async () => {
    const { Store, createRecord } = await import('./_landfall/store.js');
    const store = new Store(new URL('elsewhere/', location.href).href);
    const files = Array.from({ length: 10_050 }, (_, at) => createRecord({ file: { name: `f${at}`, size: 1, lastModified: 1, type: '' } }));
    let now = 1e12;
    Date.now = () => now += 1;
    for (const file of files) store.remember(file);
    store.all();
    return files.filter((file) => store.uploadedAt(file) < Infinity).map(({ name }) => name);
  });
  assert.equal(known.length, 10_000);
  assert.equal(known[0], 'f50');
  // The number of rows is limited as well, and a note says so.
  await visitor.tab.evaluate(async () => {
    const { Store, createRecord } = await import('./_landfall/store.js');
    const store = new Store(document.querySelector('meta[name=landfall-endpoint]').content.replace('./', location.href));
    for (let at = 0; at < 205; at += 1) {
      store.save({ ...createRecord({ file: { name: `f${at}`, size: 1, lastModified: 1, type: '' } }), state: 'finished' });
    }
  });
  await visitor.tab.reload();
  await visitor.tab.getByRole('button', { name: 'Last 200 uploads' }).click();
  await visitor.row('f5').is('done');
  await visitor.leave();
});

test('a file that changes while it is sent is never mixed', async () => {
  const visitor = await Visitor.open(browser, landfall.demo);
  const file = await landfall.file('changed.bin', LARGE);
  const row = await begin(visitor, file, 8 * MiB);
  await appendFile(file, 'more');
  await row.press('Disconnect');
  await row.is('needs-file');
  assert.match(await row.status(), /^The file can no longer be read\. It was changed, moved or deleted\. /);
  await rename(file, `${file}.old`);
  await row.press('Cancel');
  await row.is('gone');
  await visitor.leave();
});

test('everything but remembering works where the browser refuses storage', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  await visitor.context.addInitScript(() => {
    Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } });
    Object.defineProperty(window, 'indexedDB', { value: undefined });
    Object.defineProperty(navigator, 'locks', { value: undefined });
  });
  await visitor.tab.reload();
  const file = await landfall.file('private.bin', 8 * MiB);
  const row = await begin(visitor, file, MiB);
  await row.press('Pause');
  await row.is('paused');
  await row.press('Continue');
  await assertResumed(visitor, row, file);
  await visitor.leave();
});

test('without locks between tabs a person presses Resume', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  await visitor.context.addInitScript(() => {
    Object.defineProperty(navigator, 'locks', { value: undefined });
  });
  await visitor.tab.reload();
  const file = await landfall.file('lockless.bin', 8 * MiB);
  const row = await begin(visitor, file, MiB);
  await until(() => visitor.tab.evaluate(() => (
    Object.values(localStorage).some((text) => JSON.parse(text).copied)
  )), 'the copy');
  await visitor.tab.reload();
  await row.is('needs-permission');
  await row.press('Resume');
  await assertResumed(visitor, row, file);
  await visitor.leave();
});
