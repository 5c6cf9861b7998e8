// Giving files, watching them go, steering them, and getting them back.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before } from 'node:test';
import { promisify } from 'node:util';

import { Landfall, Visitor, hashOf, launch, test, testInBrowsers, until, violations } from './harness.js';

const MiB = 2 ** 20;
const bash = (script, cwd) => {
  const PATH = `${path.dirname(process.env.LANDFALL_BIN)}:${process.env.PATH}`;
  return promisify(execFile)('bash', ['--norc', '-euo', 'pipefail', '-c', script], { cwd, env: { ...process.env, PATH } });
};

/** The metadata of an upload, decoded. */
async function metadataOf(url) {
  const { headers } = await landfall.head(url);
  const pairs = headers.get('Upload-Metadata').split(',').map((pair) => pair.split(' '));
  return Object.fromEntries(pairs.map(([key, value]) => [key, Buffer.from(value, 'base64').toString()]));
}

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

testInBrowsers('chosen files are uploaded, three at a time, with identical content', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  let running = 0;
  let most = 0;
  visitor.tab.on('request', (request) => {
    if (request.method() !== 'PATCH') return;
    running += 1;
    most = Math.max(most, running);
  });
  const ended = (request) => { if (request.method() === 'PATCH') running -= 1; };
  visitor.tab.on('requestfinished', ended);
  visitor.tab.on('requestfailed', ended);

  const names = ['one.bin', 'two.txt', 'Übung – 練習 “x”.pdf', 'four & <b>.png', 'five'];
  const files = await Promise.all(names.map((name, at) => landfall.file(name, at * MiB + 1)));
  await visitor.slow(4 * MiB);
  await visitor.choose(files);
  for (const [at, name] of names.entries()) {
    const row = await visitor.row(name).is('done');
    const url = await row.url();
    assert.equal(await landfall.stored(url), await hashOf(files[at]), name);
    assert.equal((await metadataOf(url)).filename, name);
  }
  assert.equal(most, 3);
  await until(async () => (await visitor.tab.locator('#overall').textContent()) === '5 of 5 files uploaded', 'the sum');

  const [download] = await Promise.all([
    visitor.tab.waitForEvent('download'),
    visitor.tab.getByRole('link', { name: `Download ${names[3]}` }).click(),
  ]);
  const target = path.join(landfall.dir, 'downloaded');
  await download.saveAs(target);
  assert.equal(await hashOf(target), await hashOf(files[3]));
  await visitor.leave();
});

test('an empty file is uploaded without sending a byte', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  await visitor.choose(await landfall.file('empty.dat', 0));
  const row = await visitor.row('empty.dat').is('done');
  assert.equal((await landfall.head(await row.url())).headers.get('Upload-Length'), '0');
  assert.equal(visitor.sent('PATCH').length, 0);
  await visitor.leave();
});

test('dropped files and folders are uploaded', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const single = await landfall.file('single.bin', 70_000);
  const folder = path.join(landfall.dir, 'holiday');
  await mkdir(path.join(folder, 'deep/er'), { recursive: true });
  const inside = ['a.jpg', 'deep/b.jpg', 'deep/er/c.jpg'].map((name) => path.join(folder, name));
  for (const file of inside) await writeFile(file, file.repeat(50));
  await visitor.drop(single, folder);
  for (const file of [single, ...inside]) {
    const name = file === single ? 'single.bin' : path.relative(landfall.dir, file);
    const row = await visitor.row(name).is('done');
    const url = await row.url();
    assert.equal(await landfall.stored(url), await hashOf(file), file);
    const metadata = await metadataOf(url);
    assert.equal(metadata.filename, path.basename(file));
    assert.equal(metadata.relativePath, file === single ? undefined : name);
  }
  await visitor.leave();
});

test('pasted files are uploaded', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  await visitor.tab.evaluate(() => {
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File(['pasted words'], 'pasted.txt', { type: 'text/plain' }));
    document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true }));
  });
  const row = await visitor.row('pasted.txt').is('done');
  assert.equal(await (await fetch(await row.url())).text(), 'pasted words');
  await visitor.leave();
});

test('progress, speed and time left are shown while it runs', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  await visitor.slow(MiB);
  await visitor.choose(await landfall.file('shown.bin', 8 * MiB));
  const row = visitor.row('shown.bin');
  await row.midway();
  await until(async () => /^[\d.]+ MB of 8\.4 MB · [\d.]+ [kM]B\/s · .* left$/.test(await row.status()), 'speed and time');
  const speed = /· ([\d.]+) ([kM])B\/s/.exec(await row.status());
  const rate = Number(speed[1]) * (speed[2] === 'M' ? 1e6 : 1e3);
  assert.ok(rate > 0.5e6 && rate < 2.2e6, `${speed[0]} at a line of 1 MiB/s`);
  assert.equal(await visitor.tab.locator('#overall').textContent(), '0 of 1 file uploaded · 1 running');
  await until(async () => /^[\d.]+ MB of 8\.4 MB · .*\/s · .* left$/.test(await visitor.tab.locator('#amount').textContent()), 'the sum');
  assert.match(await visitor.tab.title(), /^\d+% – Landfall$/);
  await visitor.slow();
  await row.is('done');
  await until(async () => (await visitor.tab.title()) === 'Landfall', 'the title to calm down');
  await visitor.leave();
});

test('pause stops sending, continue resumes at the stored offset', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const file = await landfall.file('paused.bin', 12 * MiB);
  await visitor.slow(MiB);
  await visitor.choose(file);
  const row = visitor.row('paused.bin');
  await row.midway();
  await row.press('Pause');
  await row.is('paused');
  const before = visitor.requests.length;
  await new Promise((resolve) => { setTimeout(resolve, 2500); });
  assert.equal(await row.state(), 'paused');
  assert.equal(visitor.requests.length, before, 'a paused upload must be silent');

  await visitor.slow();
  await row.press('Continue');
  await row.is('done');
  const [head, patch] = visitor.requests.slice(before);
  assert.deepEqual([head.method, patch.method], ['HEAD', 'PATCH']);
  assert.ok(Number(patch.headers['upload-offset']) > MiB, 'it began anew');
  assert.equal(visitor.sent('POST').length, 1);
  assert.equal(await landfall.stored(await row.url()), await hashOf(file));
  await visitor.leave();
});

testInBrowsers('the upload resumes automatically after a disconnect', async () => {
  const visitor = await Visitor.open(browser, landfall.demo);
  const file = await landfall.file('cut.bin', 12 * MiB);
  await visitor.slow(MiB);
  await visitor.choose(file);
  const row = visitor.row('cut.bin');
  await row.midway();
  await row.press('Disconnect');
  await row.is('waiting');
  assert.match(await row.status(), /^Disconnected\. Retrying /);
  await until(() => visitor.sent('PATCH').length === 2, 'the second PATCH');
  await row.midway(0.5);
  await row.press('Disconnect');
  await row.is('waiting');
  await row.press('Retry now');
  await visitor.slow();
  await row.is('done');
  const offsets = visitor.sent('PATCH').map(({ headers }) => Number(headers['upload-offset']));
  // What the system still holds of the old request can arrive between HEAD and PATCH, which is then repeated.
  assert.ok(offsets.length >= 3 && offsets[0] === 0 && offsets[1] > MiB && offsets[2] > offsets[1], `offsets ${offsets}`);
  assert.equal(visitor.sent('POST').length, 1);
  assert.equal(await landfall.stored(await row.url()), await hashOf(file));
  await visitor.leave();
});

testInBrowsers('cancel removes the upload from the page and from the server', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  await visitor.slow(MiB);
  await visitor.choose(await landfall.file('cancelled.bin', 16 * MiB));
  const row = visitor.row('cancelled.bin');
  await row.midway(0.1);
  const { url } = visitor.sent('PATCH')[0];
  assert.equal((await landfall.head(url)).status, 200);
  await row.press('Cancel');
  await row.is('gone');
  assert.ok([404, 410].includes((await landfall.head(url)).status));
  await visitor.tab.reload();
  await new Promise((resolve) => { setTimeout(resolve, 500); });
  assert.equal(await row.state(), 'gone');
  await visitor.leave();
});

test('a cancelled creation leaves the list at once and nothing on the server', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const before = await landfall.count();
  let answer;
  const held = new Promise((resolve) => { answer = resolve; });
  await visitor.tab.route(landfall.endpoint, async (route) => { await held; await route.continue(); });
  const names = ['early.bin', 'paused-early.bin'];
  await visitor.choose(await Promise.all(names.map((name) => landfall.file(name, 1000))));
  const [first, second] = names.map((name) => visitor.row(name));
  await first.is('creating');
  await second.is('creating');
  await first.press('Cancel');
  await first.is('gone');
  await second.press('Pause');
  await second.is('paused');
  await second.press('Cancel');
  await second.is('gone');
  answer();
  await until(() => visitor.sent('DELETE').length === 2, 'the removal');
  await until(async () => (await landfall.count()) === before, 'the uploads to be gone');
  assert.equal(visitor.sent('PATCH').length, 0);
  await visitor.leave();
});

test('files that wait for their turn can be paused and cancelled', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  await visitor.slow(MiB / 2);
  const names = ['q1.bin', 'q2.bin', 'q3.bin', 'q4.bin', 'q5.bin', 'q6.bin'];
  const files = await Promise.all(names.map((name) => landfall.file(name, 3 * MiB)));
  await visitor.choose(files);
  const [, , , fourth, fifth, sixth] = names.map((name) => visitor.row(name));
  await fourth.is('queued');
  await fourth.press('Pause');
  await fifth.press('Cancel');
  await fifth.is('gone');
  await visitor.slow();
  await sixth.is('done');
  assert.equal(await fourth.state(), 'paused');
  assert.equal(visitor.sent('POST').length, 4);
  await fourth.press('Continue');
  await fourth.is('done');
  assert.equal(await landfall.stored(await fourth.url()), await hashOf(files[3]));
  await visitor.leave();
});

test('files with the same name, size and date from different folders are all uploaded', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const folder = path.join(landfall.dir, 'twins');
  const files = ['a/same.txt', 'b/same.txt', 'b/c/same.txt'].map((name) => path.join(folder, name));
  const date = new Date('2026-01-02T03:04:05Z');
  for (const [at, file] of files.entries()) {
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, `text ${at}`);
    await utimes(file, date, date);
  }
  await visitor.choose(folder, visitor.tab.getByRole('button', { name: 'Choose a folder' }));
  for (const file of files) {
    const name = path.relative(landfall.dir, file);
    const url = await (await visitor.row(name).is('done')).url();
    assert.equal(await landfall.stored(url), await hashOf(file), name);
    assert.equal((await metadataOf(url)).relativePath, name);
  }
  // Also without folders: the files of one choice are different ones.
  await visitor.drop(...files);
  await visitor.tab.getByRole('button', { name: '6 uploaded' }).click();
  await until(async () => (await visitor.tab.locator('.upload[data-state=done]').count()) === 6, 'six uploads');
  assert.equal(visitor.sent('POST').length, 6);
  await visitor.leave();
});

test('the same file again is named in a note, and uploaded again if that is wanted', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const file = await landfall.file('twice.bin', 4 * MiB);
  await visitor.slow(MiB);
  await visitor.choose(file);
  await visitor.row('twice.bin').midway(0.1);
  await visitor.choose(file);
  await visitor.tab.getByText('twice.bin is already in the list.').first().waitFor();
  assert.equal(visitor.sent('POST').length, 1);
  await visitor.tab.getByRole('button', { name: 'Upload again' }).click();
  await visitor.tab.locator('#note').waitFor({ state: 'hidden' });
  await visitor.slow();
  await until(async () => (await visitor.tab.locator('.upload[data-state=done]').count()) === 2, 'both uploads');
  assert.equal(visitor.sent('POST').length, 2);
  await visitor.leave();
});

test('the link can be copied', async () => {
  const visitor = await Visitor.open(browser, landfall.page, { permissions: ['clipboard-read', 'clipboard-write'] });
  await visitor.choose(await landfall.file('linked.bin', 500));
  const row = await visitor.row('linked.bin').is('done');
  await row.press('Copy link');
  await visitor.tab.locator('#announcer', { hasText: 'Link copied.' }).waitFor({ state: 'attached' });
  assert.equal(await visitor.tab.evaluate(() => navigator.clipboard.readText()), await row.url());
  await visitor.leave();
});

test('the shell commands on the page work', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  await visitor.tab.getByText('Upload from the command line').click();
  const [client, once, again] = await visitor.tab.locator('pre').allTextContents();
  const file = await landfall.file('it is a photo.jpg', 3 * MiB);
  const folder = path.dirname(file);
  const name = path.basename(file);
  assert.ok(once.includes(`'${landfall.endpoint}'`), once);

  const sent = (await bash(client.replace('photo.jpg', `'${name}'`), folder)).stdout;
  assert.equal(await landfall.stored(new URL(sent.trim().split(' ').at(-1)).href), await hashOf(file), sent);
  const { stdout } = await bash(once.replace('f=photo.jpg', `f='${name}'`), folder);
  const url = new URL(/^location: (\S+)/im.exec(stdout)[1], landfall.endpoint).href;
  assert.equal(await landfall.stored(url), await hashOf(file));
  const metadata = (await landfall.head(url)).headers.get('Upload-Metadata');
  assert.equal(metadata, `filename ${Buffer.from(name).toString('base64')}`);

  const half = (await fetch(landfall.endpoint, {
    method: 'POST', headers: { 'Tus-Resumable': '1.0.0', 'Upload-Length': String(3 * MiB) },
  })).headers.get('Location');
  const started = await bash(
    `head -c 1000001 '${name}' | curl -s -f -X PATCH -T - '${new URL(half, landfall.endpoint)}' -H 'Tus-Resumable: 1.0.0' `
    + "-H 'Content-Type: application/offset+octet-stream' -H 'Upload-Offset: 0'",
    folder,
  );
  assert.equal(started.stderr, '');
  const rest = again.replace(/^url='[^']*'/, `f='${name}'; url='${new URL(half, landfall.endpoint)}'`);
  assert.match((await bash(rest, folder)).stdout, /^HTTP\/1.1 204/m);
  assert.equal(await landfall.stored(new URL(half, landfall.endpoint)), await hashOf(file));
  await visitor.leave();
});

test('the size limit is shown and enforced without a request', async () => {
  const strict = await Landfall.start('-max-size', '1000000');
  try {
    const visitor = await Visitor.open(browser, strict.page);
    await visitor.tab.getByText('Up to 1 MB per file.').waitFor();
    await visitor.choose([await strict.file('exact.bin', 1_000_000), await strict.file('over.bin', 1_000_001)]);
    await visitor.row('exact.bin').is('done');
    const over = await visitor.row('over.bin').is('rejected');
    assert.match(await over.status(), /^Too large: 1,000,001 bytes, but this server accepts at most 1,000,000 bytes /);
    assert.equal(visitor.sent('POST').length, 1);
    await over.press('Clear');
    await over.is('gone');
    await visitor.leave();
  } finally {
    await strict.stop();
  }
});

test('without downloads there are no links', async () => {
  const mute = await Landfall.start('-disable-download');
  try {
    const visitor = await Visitor.open(browser, mute.page);
    await visitor.choose(await mute.file('kept.bin', 2000));
    const row = await visitor.row('kept.bin').is('done');
    assert.equal(await row.status(), 'Uploaded and stored on the server · 2 kB');
    assert.equal(await row.element.getByRole('link').count(), 0);
    assert.equal(await row.button('Copy link').count(), 0);
    await visitor.leave();
  } finally {
    await mute.stop();
  }
});

test('the operator sets the title, the text and the logo', async () => {
  const logo = path.join(landfall.dir, 'logo.svg');
  await writeFile(logo, '<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20"/>');
  const own = await Landfall.start(
    '-page-title', 'Post & parcels', '-page-text', 'Send us <everything>.', '-page-logo', logo,
  );
  try {
    const visitor = await Visitor.open(browser, own.page);
    assert.equal(await visitor.tab.title(), 'Post & parcels');
    assert.equal(await visitor.tab.getByRole('heading', { level: 1 }).textContent(), 'Post & parcels');
    await visitor.tab.getByText('Send us <everything>.', { exact: true }).waitFor();
    const width = () => visitor.tab.locator('#logo').evaluate((image) => image.complete && image.naturalWidth);
    await until(async () => (await width()) === 30, 'the logo');
    await visitor.leave();
  } finally {
    await own.stop();
  }
});

test('only a demonstration has a button that closes the connection', async () => {
  for (const [page, buttons] of [[landfall.page, 0], [landfall.demo, 1]]) {
    const visitor = await Visitor.open(browser, page);
    await visitor.slow(MiB / 2);
    await visitor.choose(await landfall.file('demo.bin', 4 * MiB));
    const row = visitor.row('demo.bin');
    await row.midway(0.05);
    assert.equal(await row.button('Disconnect').count(), buttons);
    await row.press('Cancel');
    await row.is('gone');
    await visitor.leave();
  }
});

test('where a token is required, nothing can be chosen or dropped', async () => {
  const strict = await Landfall.start('-require-grant');
  try {
    const visitor = await Visitor.open(browser, strict.page);
    await visitor.tab.getByText('You need an upload link for this page. Open the link that you received again, or ask the person who sent you here for one.').waitFor();
    assert.doesNotMatch(await visitor.tab.locator('body').innerText(), /token|uploadjobs/i);
    assert.equal(await visitor.tab.getByRole('button').count(), 0);
    assert.equal(await visitor.tab.locator('#drop').isVisible(), false);
    await visitor.tab.evaluate(() => {
      const clipboardData = new DataTransfer();
      clipboardData.items.add(new File(['x'], 'x.txt'));
      document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true }));
    });
    assert.equal(await visitor.tab.locator('.upload').count(), 0);
    assert.deepEqual(await violations(visitor), []);
    await visitor.leave();
  } finally {
    await strict.stop();
  }
});
