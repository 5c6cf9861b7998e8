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
  // It is still there after a reload.
  await tab.reload();
  await tab.getByText(/^1 more file\. Open until /).waitFor();
  await visitor.choose([await landfall.file('two.jpg', 100)]);
  await visitor.row('two.jpg').is('done');
  await visitor.choose([await landfall.file('three.jpg', 100)]);
  await visitor.row('three.jpg').is('failed');
  assert.equal(await visitor.row('three.jpg').status(), 'The server does not allow this: this link accepts 2 files, and no more');
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
