// Login, sessions and access control.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { after, before } from 'node:test';
import { promisify } from 'node:util';

import { program } from '../page/harness.js';
import { KEY, MB, Operator, Upload, api, launch, start, test, testInBrowsers } from './harness.js';

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

/** Logs in without a browser. */
async function session(key = KEY) {
  const answer = await fetch(`${landfall.origin}/admin/login`, {
    method: 'POST', redirect: 'manual', headers: { Origin: landfall.origin }, body: new URLSearchParams({ key }),
  });
  return { status: answer.status, location: answer.headers.get('location'), cookie: answer.headers.get('set-cookie') };
}

testInBrowsers('log in and log out', async () => {
  const operator = await Operator.arrive(browser, landfall);
  const { tab } = operator;
  assert.equal(await tab.title(), 'Log in · Landfall');
  assert.equal(await tab.evaluate(() => document.activeElement.id), 'key');
  await operator.logIn('not the key at all');
  await operator.says(tab.getByRole('alert'), /^Invalid admin key\.$/);
  await operator.logIn(KEY);
  await tab.getByRole('heading', { name: 'Active uploads' }).waitFor();
  assert.equal(await tab.title(), 'Uploads · Landfall');
  assert.equal(new URL(tab.url()).pathname, '/admin/');
  const [cookie] = await operator.visitor.context.cookies();
  assert.equal(cookie.httpOnly && cookie.sameSite, 'Strict');
  assert.ok(cookie.path.startsWith('/admin'), cookie.path);
  assert.ok(Math.abs(cookie.expires - Date.now() / 1000 - 12 * 3600) < 60);
  assert.ok(!decodeURIComponent(cookie.value).includes(KEY));
  await tab.reload();
  await tab.getByRole('heading', { name: 'Active uploads' }).waitFor();
  await tab.getByRole('button', { name: 'Log out' }).click();
  await tab.getByLabel('Admin key').waitFor();
  assert.deepEqual(await operator.visitor.context.cookies(), []);
  await operator.leave();
});

testInBrowsers('the page shows the login form when the session has ended', async () => {
  const operator = await Operator.open(browser, landfall);
  await operator.visitor.context.clearCookies();
  await operator.tab.getByLabel('Admin key').waitFor();
  await operator.leave();
});

test('requests without a key are denied', async () => {
  for (const headers of [
    {}, { Authorization: 'Bearer wrong' }, { Authorization: `Basic ${KEY}` }, { Authorization: 'Bearer ' },
    { Cookie: 'landfall_admin=9999999999.admin.1.AAAA' },
  ]) {
    const answer = await fetch(`${landfall.origin}/admin/api/overview`, { headers });
    assert.equal(answer.status, 401, JSON.stringify(headers));
    assert.equal(answer.headers.get('www-authenticate'), 'Bearer');
    assert.equal(answer.headers.get('content-type'), 'application/problem+json');
    assert.equal(answer.headers.get('cache-control'), 'no-store');
  }
  assert.equal((await api(landfall, 'overview')).status, 200);
  assert.equal((await api(landfall, 'nothing')).status, 404);
  const form = await (await fetch(`${landfall.origin}/admin/`)).text();
  assert.ok(form.includes('Admin key') && !form.includes('app.js'));
});

test('the content security policy allows only the own origin', async () => {
  const answer = await fetch(`${landfall.origin}/admin/`);
  const policy = answer.headers.get('content-security-policy');
  assert.match(policy, /^default-src 'none'; script-src 'self'; style-src 'self';/);
  assert.doesNotMatch(policy, /unsafe|\*/);
  assert.match(policy, /frame-ancestors 'none'/);
  for (const [name, value] of [['x-content-type-options', 'nosniff'], ['cache-control', 'no-store'], ['referrer-policy', 'no-referrer']]) {
    assert.equal(answer.headers.get(name), value);
  }
});

test('the path without a slash redirects relatively', async () => {
  const answer = await fetch(`${landfall.origin}/admin`, { redirect: 'manual' });
  assert.equal(answer.status, 308);
  assert.equal(answer.headers.get('location'), 'admin/');
});

test('assets are revalidated', async () => {
  const first = await fetch(`${landfall.origin}/admin/assets/app.js`);
  assert.equal(first.headers.get('content-type'), 'text/javascript; charset=utf-8');
  const again = await fetch(`${landfall.origin}/admin/assets/app.js`, { headers: { 'If-None-Match': first.headers.get('etag') } });
  assert.equal(again.status, 304);
  assert.equal((await fetch(`${landfall.origin}/admin/assets/index.html`)).status, 404);
});

test('cross-site requests with the session cookie are denied', async () => {
  const { status, location, cookie } = await session();
  assert.deepEqual([status, location], [303, './']);
  const [pair] = cookie.split(';');
  const upload = await Upload.create(landfall, 'precious.bin', MB);
  const { body: { uploads: [{ id }] } } = await api(landfall, 'uploads?search=precious.bin');
  const request = async (headers) => (await fetch(`${landfall.origin}/admin/api/uploads/${id}`, {
    method: 'DELETE', headers: { Cookie: pair, ...headers },
  })).status;
  assert.equal(await request({}), 403);
  assert.equal(await request({ Origin: 'https://evil.example' }), 403);
  assert.equal(await request({ Origin: 'null' }), 403);
  assert.equal(await request({ Origin: landfall.origin, 'Sec-Fetch-Site': 'cross-site' }), 403);
  assert.equal(await request({ 'Sec-Fetch-Site': 'same-site' }), 403);
  assert.equal(await upload.status(), 200);
  const foreign = await fetch(`${landfall.origin}/admin/login`, {
    method: 'POST', headers: { Origin: 'https://evil.example' }, body: new URLSearchParams({ key: KEY }),
  });
  assert.equal(foreign.status, 403);
  assert.equal(foreign.headers.get('set-cookie'), null);
  const out = await fetch(`${landfall.origin}/admin/logout`, {
    method: 'POST', redirect: 'manual', headers: { Cookie: pair, Origin: 'https://evil.example' },
  });
  assert.equal(out.status, 403);
  assert.equal(await request({ Origin: landfall.origin }), 200);
  assert.equal(await upload.status(), 404);
  const left = await fetch(`${landfall.origin}/admin/logout`, {
    method: 'POST', redirect: 'manual', headers: { Cookie: pair, Origin: landfall.origin },
  });
  assert.equal(left.status, 303);
  assert.equal(await request({ Origin: landfall.origin }), 401);
});

test('failed logins are limited, the right key never', async () => {
  const one = await start('-behind-proxy');
  try {
    const request = (key, client) => fetch(`${one.origin}/admin/api/overview`, {
      headers: { Authorization: `Bearer ${key}`, 'X-Forwarded-For': client },
    });
    for (let tried = 0; tried < 10; tried += 1) assert.equal((await request(`guess ${tried}`, '192.0.2.1')).status, 401);
    const refused = await request('guess 10', '192.0.2.1');
    assert.equal(refused.status, 429);
    assert.ok(Number(refused.headers.get('retry-after')) >= 1);
    const form = await fetch(`${one.origin}/admin/login`, {
      method: 'POST',
      redirect: 'manual',
      headers: { Origin: one.origin, 'X-Forwarded-For': '192.0.2.1' },
      body: new URLSearchParams({ key: KEY }),
    });
    assert.equal(form.status, 303);
    assert.equal((await request(KEY, '192.0.2.1')).status, 200);
    assert.equal((await request('guess 12', '192.0.2.2')).status, 401);
  } finally {
    await one.stop();
  }
});

test('there is no dashboard without a key', async () => {
  const { Landfall } = await import('../page/harness.js');
  const plain = await Landfall.start();
  for (const path of ['admin', 'admin/', 'admin/api/overview', 'admin/assets/app.js']) {
    assert.equal((await fetch(`${plain.origin}/${path}`)).status, 404, path);
  }
  await plain.stop();
});

/** Runs `landfall keys` beside the server, and returns what it printed. */
async function keys(...words) {
  const { bin, env } = program();
  const { stdout } = await promisify(execFile)(path.resolve(bin), ['keys', ...words, '-upload-dir', landfall.data], { cwd: landfall.dir, env });
  return stdout;
}

test('an admin’s API key opens it until it is revoked, another’s never', async () => {
  const key = async (...words) => /lfk_[\w-]{43}/.exec(await keys('add', ...words))[0];
  const ops = await key('ops', '-admin');
  const shop = await key('shop');
  assert.equal((await session(shop)).status, 401);
  const { status, cookie } = await session(ops);
  assert.equal(status, 303);
  const [pair] = cookie.split(';');
  const overview = async (headers) => (await fetch(`${landfall.origin}/admin/api/overview`, { headers })).status;
  assert.equal(await overview({ Cookie: pair }), 200);
  assert.equal(await overview({ Authorization: `Bearer ${ops}` }), 200);
  assert.equal(await overview({ Authorization: `Bearer ${shop}` }), 401);
  const { body } = await api(landfall, 'keys');
  assert.deepEqual(body.keys.map(({ name, admin }) => [name, admin]), [['ops', true], ['shop', false]]);
  assert.ok(!JSON.stringify(body).includes('lfk_'));
  await keys('revoke', 'ops');
  assert.equal(await overview({ Cookie: pair }), 401);
  assert.equal(await overview({ Authorization: `Bearer ${ops}` }), 401);
});

test('a link is shown with its files and limits, and revoked', async () => {
  const { bin, env } = program();
  const words = ['link', '--name', 'Photos for Ann', '--max-size', '5GB', '--files', '50', '-upload-dir', landfall.data];
  const { stdout } = await promisify(execFile)(path.resolve(bin), words, { cwd: landfall.dir, env });
  const secret = new URLSearchParams(new URL(stdout.trim()).hash.slice(1)).get('token');
  // It opens no dashboard.
  assert.equal((await session(secret)).status, 401);
  const operator = await Operator.open(browser, landfall);
  const links = operator.tab.locator('#links');
  await operator.says(links, /Photos for Ann · files: 0 of 50, up to 5 GB each · expires /);
  await links.getByRole('button', { name: 'Revoke Photos for Ann' }).click();
  await operator.tab.getByRole('button', { name: 'Revoke', exact: true }).click();
  await operator.says(links, /None. Create one with “landfall link”/);
  await operator.leave();
});
