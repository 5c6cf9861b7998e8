// Upload links: the page uploads with one where a grant is required, and keeps its secret.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before } from 'node:test';
import { promisify } from 'node:util';

import { Landfall, Visitor, hashOf, launch, program, test, testInBrowsers } from './harness.js';

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
  assert.equal(await visitor.row('second.bin').state(), 'gone');
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
  const denied = tab.locator('.upload[data-state=rejected]');
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
  await visitor.tab.getByText(/^This link does not work: it was revoked, has expired/).waitFor();
  assert.ok(await visitor.tab.getByRole('button', { name: 'Choose files' }).isHidden());
  assert.equal(visitor.tab.url(), landfall.page);
  await visitor.leave();
});
