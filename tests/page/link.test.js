// Upload links: the page uploads with one where a grant is required, and keeps its secret.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before } from 'node:test';
import { promisify } from 'node:util';

import { Landfall, Visitor, hashOf, launch, program, test, testInBrowsers, until } from './harness.js';

let browser;
let landfall;
before(async () => {
  browser = await launch();
  landfall = await Landfall.start('-require-grant');
});
after(async () => {
  await browser?.close();
  await landfall?.stop();
});

async function link(...args) {
  const { bin, env } = program();
  const flags = ['link', ...args, '-upload-dir', landfall.data];
  return (await promisify(execFile)(bin, flags, { env })).stdout.trim();
}

test('a link without further files accepts one again after one was cancelled', async () => {
  const visitor = await Visitor.open(browser, await link('--name', 'One file', '--files', '1', '--url', landfall.page));
  const { tab } = visitor;
  const full = 'This link is full: it is for 1 file.';
  await visitor.slow(400_000);
  await visitor.choose(await landfall.file('first.bin', 8_000_000));
  await visitor.row('first.bin').is('uploading');
  await tab.locator('#tagline', { hasText: full }).waitFor();
  assert.equal(await tab.evaluate(() => document.activeElement.id), 'tagline', 'the focus stays at the start');
  // No request: the page knows.
  await visitor.drop(await landfall.file('second.bin', 100));
  await visitor.row('second.bin').is('rejected');
  assert.equal(await visitor.row('second.bin').status(), full);
  assert.equal(visitor.sent('POST').length, 2);
  await visitor.row('first.bin').press('Cancel');
  await tab.getByText(/^1 more file\. Open until /).waitFor();
  await visitor.slow();
  await visitor.choose(await landfall.file('third.bin', 100));
  await visitor.row('third.bin').is('done');
  await tab.locator('#tagline', { hasText: full }).waitFor();
  await tab.reload();
  await tab.locator('#tagline', { hasText: full }).waitFor();
  await visitor.row('third.bin').is('done');
  assert.equal(await tab.locator('#drop').isHidden(), true);
  // Rejected files stay in the list, and are not requested again.
  await visitor.row('second.bin').is('rejected');
  assert.equal(await visitor.row('second.bin').status(), full);
  await tab.locator('#overall', { hasText: /^1 of 2 files uploaded · 1 failed$/ }).waitFor();
  await visitor.row('second.bin').press('Clear');
  await tab.reload();
  await visitor.row('third.bin').is('done');
  assert.equal(await visitor.row('second.bin').state(), 'gone');
  await visitor.leave();
});

test('what was denied is cleared with one button, and a file that is chosen again takes the place of its row', async () => {
  const visitor = await Visitor.open(browser, await link('--name', 'Small', '--max-size', '1kB', '--url', landfall.page));
  const { tab } = visitor;
  const large = await Promise.all(['a.bin', 'b.bin', 'c.bin'].map((name) => landfall.file(name, 2000)));
  await visitor.choose(large);
  await visitor.row('c.bin').is('rejected');
  await visitor.choose(large.slice(0, 2));
  await visitor.choose(await landfall.file('small.bin', 10));
  await visitor.row('small.bin').is('done');
  await tab.locator('#overall', { hasText: /^1 of 4 files uploaded · 3 failed$/ }).waitFor();
  await tab.reload();
  await visitor.row('b.bin').is('rejected');
  await tab.getByRole('button', { name: 'Clear rejected' }).click();
  await tab.locator('#overall', { hasText: /^1 of 1 file uploaded$/ }).waitFor();
  assert.equal(visitor.sent('POST').length, 2);
  await visitor.leave();
});

test('files that were added for one link wait for it: no other link gets or shows them', async () => {
  const url = await link('--name', 'For the accountant', '--url', landfall.page);
  const visitor = await Visitor.open(browser, url);
  await visitor.slow(200_000);
  await visitor.choose(await Promise.all([1, 2, 3, 4].map((at) => landfall.file(`tax${at}.bin`, 6_000_000))));
  await visitor.row('tax4.bin').is('queued');
  await visitor.row('tax1.bin').is('uploading');
  // Of all four: a copy is stored for the next visit.
  await until(() => visitor.tab.evaluate(() => (
    Object.values(localStorage).filter((text) => JSON.parse(text).copied).length === 4
  )), 'the copies');
  await visitor.tab.close();

  for (const other of [landfall.page, await link('--name', 'Party', '--url', landfall.page)]) {
    const visit = await Visitor.join(visitor.context, other);
    assert.equal(await visit.tab.locator('#list-section').isHidden(), true);
    // The texts, the link and the list are there; nothing starts later.
    await visit.tab.waitForTimeout(1000);
    assert.deepEqual(visit.requests, []);
    await visit.tab.close();
  }
  const again = await Visitor.join(visitor.context, url);
  for (const at of [1, 2, 3, 4]) await again.row(`tax${at}.bin`).is('done');
  await again.leave();
});

test('a server that takes no links has a note about it, and does not ignore the limits of the link', async () => {
  const open = await Landfall.start();
  try {
    const visitor = await Visitor.open(browser, `${open.page}#token=lfk_abc`);
    await visitor.tab.locator('#note-text', { hasText: 'This server takes no upload links. Ask the person who sent this one.' }).waitFor();
    assert.ok(await visitor.tab.getByRole('button', { name: 'Choose files' }).isHidden());
    // Without the link, it is an open server.
    await visitor.tab.reload();
    await visitor.tab.getByRole('button', { name: 'Choose files' }).waitFor();
    await visitor.leave();
  } finally {
    await open.stop();
  }
});

test('a link ends while its page is open', async () => {
  const visitor = await Visitor.open(browser, await link('--expires', '20s', '--url', landfall.page));
  await visitor.tab.getByText(/^Open until \w+ \d+, \d+, \d+:\d+/).waitFor();
  await visitor.tab.locator('#note-text', { hasText: /^This link does not work: it was revoked, has expired/ }).waitFor();
  assert.ok(await visitor.tab.getByRole('button', { name: 'Choose files' }).isHidden());
  await visitor.leave();
});

testInBrowsers('people upload with a link, and its secret is in no URL', async () => {
  const url = await link('--name', 'Photos for Ann', '--max-size', '2MB', '--files', '2', '--url', landfall.page);
  const secret = new URLSearchParams(new URL(url).hash.slice(1)).get('token');
  assert.match(secret, /^lfk_[\w-]{43}$/);
  const visitor = await Visitor.open(browser, url);
  const { tab } = visitor;
  await tab.getByRole('heading', { name: 'Photos for Ann' }).waitFor();
  assert.equal(tab.url(), landfall.page);
  await tab.getByText(/^2 more files\. Open until /).waitFor();
  await tab.getByText('Up to 2.0 MB per file.').or(tab.getByText('Up to 2 MB per file.')).waitFor();
  const file = await landfall.file('one.jpg', 1_000_000);
  await visitor.choose(file);
  await visitor.row('one.jpg').is('done');
  assert.equal(await landfall.stored(await visitor.row('one.jpg').url()), await hashOf(file));
  await visitor.choose(await landfall.file('large.jpg', 2_000_001));
  await visitor.row('large.jpg').is('rejected');
  assert.equal(await visitor.row('large.jpg').status(), 'Too large: 2,000,001 bytes, but this link accepts at most 2,000,000 bytes per file.');
  await tab.getByText(/^1 more file\. Open until /).waitFor();
  // It is still there after a reload.
  await tab.reload();
  await tab.getByText(/^1 more file\. Open until /).waitFor();
  // One of them is granted.
  await visitor.choose(await Promise.all(['two.jpg', 'three.jpg'].map((name) => landfall.file(name, 100))));
  await visitor.row('large.jpg').is('rejected');
  const denied = tab.locator('.upload[data-state=rejected]').filter({ hasNotText: 'large.jpg' });
  await denied.waitFor();
  assert.equal(await denied.locator('.status').textContent(), 'Not allowed by the server: this link accepts 2 files, and no more');
  assert.deepEqual(await denied.getByRole('button').allTextContents(), [`Clear ${await denied.locator('.name').textContent()}`]);
  await tab.locator('#tagline', { hasText: 'This link is full: it is for 2 files.' }).waitFor();
  assert.equal(await tab.locator('#drop').isHidden(), true);
  for (const request of visitor.requests) {
    assert.ok(!request.url.includes('lf'), request.url);
    const isGrant = request.url.endsWith('/uploadjobs');
    assert.equal(request.headers.authorization, isGrant ? `Bearer ${secret}` : undefined, request.url);
  }
  await visitor.leave();
});

test('a revoked link says so, and offers nothing to choose', async () => {
  const url = await link('--name', 'gone', '--url', landfall.page);
  await link('revoke', 'gone');
  const visitor = await Visitor.open(browser, url);
  await visitor.tab.locator('#note-text', { hasText: /^This link does not work: it was revoked, has expired/ }).waitFor();
  assert.ok(await visitor.tab.getByRole('button', { name: 'Choose files' }).isHidden());
  assert.equal(visitor.tab.url(), landfall.page);
  await visitor.leave();
});
