// Network failures, error responses, proxies.

import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';
import { after, before } from 'node:test';

import { Landfall, Visitor, hashOf, launch, test, until } from './harness.js';

const MiB = 2 ** 20;

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

/** Responds to the first requests of a method, one for each entry; the rest go to the server. */
async function answerFirst(visitor, method, ...answers) {
  await visitor.tab.route(`${landfall.endpoint}**`, async (route) => {
    if (route.request().method() !== method || answers.length === 0) return route.fallback();
    return route.fulfill({ body: '', contentType: 'text/plain; charset=utf-8', ...answers.shift() });
  });
}

/** Uploads a file despite errors; returns the methods of its requests. */
async function succeeds(name, method, ...answers) {
  const visitor = await Visitor.open(browser, landfall.page);
  await answerFirst(visitor, method, ...answers);
  const file = await landfall.file(name, 300_000);
  await visitor.choose(file);
  const row = await visitor.row(name).is('done', 'failed');
  assert.equal(await row.state(), 'done', await row.status());
  assert.equal(await landfall.stored(await row.url()), await hashOf(file));
  const methods = visitor.requests.map((request) => request.method).join(' ');
  await visitor.leave();
  return methods;
}

/** Uploads a file that fails; returns its status text. */
async function fails(name, method, ...answers) {
  const visitor = await Visitor.open(browser, landfall.page);
  await answerFirst(visitor, method, ...answers);
  await visitor.choose(await landfall.file(name, 300_000));
  const row = await visitor.row(name).is('failed', 'done');
  assert.equal(await row.state(), 'failed');
  const status = await row.status();
  await row.press('Cancel');
  await row.is('gone');
  await visitor.leave();
  return status;
}

test('409: the offset is requested again', async () => {
  assert.equal(await succeeds('409.bin', 'PATCH', { status: 409 }), 'POST PATCH HEAD PATCH');
});

test('423: waits, then requests the offset', async () => {
  const start = Date.now();
  assert.equal(await succeeds('423.bin', 'PATCH', { status: 423 }, { status: 423 }), 'POST PATCH HEAD PATCH HEAD PATCH');
  assert.ok(Date.now() - start > 1500, 'it did not wait');
});

test('423 on asking is no reason to begin anew', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  await answerFirst(visitor, 'PATCH', { status: 409 });
  await answerFirst(visitor, 'HEAD', { status: 423 });
  await visitor.choose(await landfall.file('423-head.bin', 1000));
  await visitor.row('423-head.bin').is('done');
  assert.deepEqual(visitor.requests.map(({ method }) => method), ['POST', 'PATCH', 'HEAD', 'HEAD', 'PATCH']);
  await visitor.leave();
});

test('404 and 410: the upload begins anew', async () => {
  for (const status of [404, 410]) {
    assert.equal(await succeeds(`${status}.bin`, 'PATCH', { status }), 'POST PATCH POST PATCH');
  }
});

test('repeated 404: fails with a message', async () => {
  const gone = { status: 404, body: 'no such upload' };
  assert.equal(
    await fails('404s.bin', 'PATCH', gone, gone, gone, gone),
    'The server rejected several attempts (404). no such upload',
  );
});

test('413 on creation: a clear sentence, no second try', async () => {
  const status = await fails('413.bin', 'POST', { status: 413, body: 'the limit is 5 bytes' });
  assert.equal(status, 'the limit is 5 bytes');
  assert.equal(
    await fails('413-html.bin', 'POST', { status: 413, body: '<h1>413</h1>', contentType: 'text/html' }),
    'The file is larger than the server accepts.',
  );
});

test('413 of a proxy that refuses large bodies: the body gets smaller', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  await visitor.tab.route(`${landfall.endpoint}**`, async (route) => {
    const { length } = route.request().postDataBuffer() ?? [];
    if (length > MiB) return route.fulfill({ status: 413, contentType: 'text/html', body: '<h1>413</h1>' });
    return route.fallback();
  });
  const file = await landfall.file('proxied.bin', 2_000_000);
  await visitor.choose(file);
  const row = await visitor.row('proxied.bin').is('done');
  assert.equal(await landfall.stored(await row.url()), await hashOf(file));
  assert.deepEqual(
    visitor.sent('PATCH').slice(-3).map(({ headers }) => headers['upload-offset']),
    ['0', '900000', '1800000'],
  );
  await visitor.leave();
});

test('5xx: waits for Retry-After and resumes', async () => {
  const start = Date.now();
  assert.equal(
    await succeeds('503.bin', 'PATCH', { status: 503, headers: { 'Retry-After': '3' } }, { status: 500 }),
    'POST PATCH HEAD PATCH HEAD PATCH',
  );
  assert.ok(Date.now() - start > 3000, 'Retry-After was ignored');
  assert.equal(await succeeds('429.bin', 'POST', { status: 429 }), 'POST POST PATCH');
  assert.equal(
    await succeeds('507.bin', 'PATCH', { status: 507, headers: { 'Retry-After': '1' } }),
    'POST PATCH HEAD PATCH',
  );
});

test('refusals are told in the words of the server', async () => {
  assert.equal(await fails('401.bin', 'POST', { status: 401 }), 'The server does not allow this.');
  assert.equal(
    await fails('403.bin', 'POST', { status: 403, body: 'only on weekdays' }),
    'Not allowed by the server: only on weekdays',
  );
  assert.equal(
    await fails('422.bin', 'POST', { status: 422, body: 'x'.repeat(5000) }),
    `The server rejected the upload (422): ${'x'.repeat(300)}…`,
  );
});

test('what the server denied stays so after a reload, until it is tried again', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const denied = { status: 403, body: 'only on weekdays' };
  await answerFirst(visitor, 'POST', denied, denied, denied);
  await visitor.choose(await Promise.all(['later1.bin', 'later2.bin'].map((name) => landfall.file(name, 1000))));
  const rows = ['later1.bin', 'later2.bin'].map((name) => visitor.row(name));
  for (const row of rows) await row.is('failed');
  assert.ok((await rows[0].element.boundingBox()).height < 100, 'a row without progress is low');
  await until(() => visitor.tab.evaluate(() => Object.values(localStorage).every((text) => JSON.parse(text).copied)), 'the copies');
  // Too large for a copy.
  await visitor.choose(await landfall.file('large.bin', 70 * MiB));
  await visitor.row('large.bin').is('failed');
  await visitor.tab.reload();
  for (const row of rows) await row.is('failed');
  await visitor.row('large.bin').is('needs-file');
  assert.match(await visitor.row('large.bin').status(), /^Not allowed by the server: only on weekdays /);
  assert.equal(await rows[0].status(), 'Not allowed by the server: only on weekdays');
  await visitor.tab.locator('#overall', { hasText: /^0 of 3 files uploaded · 1 waiting for you · 2 failed$/ }).waitFor();
  assert.equal(visitor.sent('POST').length, 3);
  await visitor.tab.getByRole('button', { name: 'Retry all failed' }).click();
  for (const row of rows) await row.is('done');
  await visitor.leave();
});

test('the detail of a problem document is shown', async () => {
  const body = JSON.stringify({ type: 'about:blank', title: 'Forbidden', status: 403, detail: 'only on weekdays' });
  assert.equal(
    await fails('problem.bin', 'POST', { status: 403, body, contentType: 'application/problem+json' }),
    'Not allowed by the server: only on weekdays',
  );
});

test('uploads that wait for a retry let others run, and can be cancelled', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const busy = { status: 503, headers: { 'Retry-After': '120' } };
  await answerFirst(visitor, 'PATCH', busy, busy, busy);
  const names = ['w1.bin', 'w2.bin', 'w3.bin', 'w4.bin', 'w5.bin'];
  const files = await Promise.all(names.map((name) => landfall.file(name, 1000)));
  const rows = names.map((name) => visitor.row(name));
  // As many as may run at a time; they get the three responses.
  await visitor.choose(files.slice(0, 3));
  for (const row of rows.slice(0, 3)) await row.is('waiting');
  await visitor.choose(files.slice(3));
  await rows[3].is('done');
  await rows[4].is('done');
  for (const row of rows.slice(0, 3)) assert.equal(await row.state(), 'waiting');
  await rows[0].press('Retry now');
  await rows[0].is('done');
  await rows[1].press('Cancel');
  await rows[1].is('gone');
  await rows[2].press('Pause');
  await rows[2].is('paused');
  await rows[2].press('Continue');
  await rows[2].is('done');
  await visitor.leave();
});

test('without a network only some uploads wait for it', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  let isDown = true;
  await visitor.tab.route(`${landfall.endpoint}**`, (route) => (isDown ? route.abort() : route.fallback()));
  const names = Array.from({ length: 8 }, (_, at) => `down${at}.bin`);
  await visitor.choose(await Promise.all(names.map((name) => landfall.file(name, 1000))));
  await visitor.row('down2.bin').is('waiting');
  await new Promise((resolve) => { setTimeout(resolve, 300); });
  assert.ok(await visitor.tab.locator('.upload[data-state=queued]').count() >= 3, 'the rest must wait');
  isDown = false;
  await visitor.tab.getByRole('button', { name: '8 uploaded' }).click();
  for (const name of names) await visitor.row(name).is('done');
  await visitor.leave();
});

test('a failed upload can be tried again', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  await answerFirst(visitor, 'PATCH', { status: 403 });
  const file = await landfall.file('again.bin', 5000);
  await visitor.choose(file);
  const row = await visitor.row('again.bin').is('failed');
  await row.press('Retry');
  await row.is('done');
  assert.equal(visitor.sent('POST').length, 1);
  assert.equal(await landfall.stored(await row.url()), await hashOf(file));
  await visitor.leave();
});

test('an answer without sense is not believed', async () => {
  const lie = { status: 204, headers: { 'Upload-Offset': '300000000' } };
  assert.equal(await succeeds('lie.bin', 'PATCH', lie, { status: 204 }), 'POST PATCH HEAD PATCH HEAD PATCH');
});

test('a failed termination is reported', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  await answerFirst(visitor, 'DELETE', { status: 403, body: 'not yours' });
  await visitor.slow(MiB);
  await visitor.choose(await landfall.file('kept.bin', 8 * MiB));
  const row = visitor.row('kept.bin');
  await row.midway(0.1);
  await row.press('Cancel');
  await row.is('failed');
  assert.equal(await row.status(), 'The server did not remove the upload (not yours).');
  await visitor.slow();
  await row.press('Retry');
  await row.is('done');
  assert.equal(visitor.sent('POST').length, 1, 'it must be able to go on after all');
  await visitor.leave();
});

test('the same where the file is not at hand any more', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  await visitor.slow(8 * MiB);
  await visitor.choose(await landfall.file('far.bin', 80 * MiB));
  const row = visitor.row('far.bin');
  await row.midway(0.1);
  await visitor.tab.reload();
  await row.is('needs-file');
  await answerFirst(visitor, 'DELETE', { status: 403, body: 'not yours' });
  await row.press('Cancel');
  await until(async () => /^The server did not remove the upload \(not yours\)\. /.test(await row.status()), 'the reason');
  assert.equal(await row.state(), 'needs-file');
  await row.press('Cancel');
  await row.is('gone');
  await visitor.leave();
});

test('a line that resets again and again delays, but never spoils', async () => {
  const target = Number(new URL(landfall.endpoint).port);
  const upstreams = new Set();
  let resets = 0;
  const proxy = net.createServer((socket) => {
    const upstream = net.connect(target, '127.0.0.1');
    upstreams.add(upstream);
    let passed = 0;
    const end = () => { socket.destroy(); upstream.destroy(); upstreams.delete(upstream); };
    for (const side of [socket, upstream]) side.on('error', end).on('close', end);
    socket.on('data', (chunk) => {
      passed += chunk.length;
      upstream.write(chunk);
      if (passed > 3 * MiB && resets < 3) {
        resets += 1;
        socket.resetAndDestroy();
        upstream.resetAndDestroy();
      }
    });
    upstream.pipe(socket);
  });
  await new Promise((resolve) => { proxy.listen(0, '127.0.0.1', resolve); });
  try {
    const visitor = await Visitor.open(browser, `http://127.0.0.1:${proxy.address().port}/`);
    const file = await landfall.file('reset.bin', 16 * MiB);
    await visitor.slow(8 * MiB);
    await visitor.choose(file);
    const row = await visitor.row('reset.bin').is('done');
    assert.equal(resets, 3);
    const offsets = visitor.sent('PATCH').map(({ headers }) => Number(headers['upload-offset']));
    assert.ok(offsets.at(-1) > 0 && offsets.every((offset, at) => at === 0 || offset >= offsets[at - 1]), `${offsets}`);
    assert.equal(visitor.sent('POST').length, 1);
    assert.equal(await landfall.stored(await row.url()), await hashOf(file));
    await visitor.leave();
  } finally {
    for (const upstream of upstreams) upstream.destroy();
    proxy.close();
  }
});

test('a server that is killed and comes back gets the rest', async () => {
  const own = await Landfall.start();
  try {
    const visitor = await Visitor.open(browser, own.page);
    const file = await own.file('killed.bin', 12 * MiB);
    await visitor.slow(1.5 * MiB);
    await visitor.choose(file);
    const row = visitor.row('killed.bin');
    await row.midway(0.3);
    await own.halt('SIGKILL');
    await row.is('waiting');
    assert.match(await row.status(), /^Connection lost\. Retrying /);
    await own.run(Number(new URL(own.endpoint).port));
    await visitor.slow();
    await row.is('done');
    assert.equal(visitor.sent('POST').length, 1);
    assert.equal(await own.stored(await row.url()), await hashOf(file));
    await visitor.leave();
  } finally {
    await own.stop();
  }
});

test('a row says at once that the connection is lost', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const file = await landfall.file('lost.bin', 8 * MiB);
  await visitor.slow(MiB / 2);
  await visitor.choose(file);
  const row = visitor.row('lost.bin');
  await row.midway(0.1);
  await visitor.offline();
  await until(async () => /^Connection lost\. Retrying /.test(await row.status()), 'the row to say so', 2000);
  await until(async () => (await visitor.tab.locator('#overall').textContent()) === '0 of 1 file uploaded · 1 waiting to retry', 'the sum', 2000);
  // While an attempt runs without a response, too.
  for (let at = 0; at < 40; at += 1) {
    assert.match(await row.status(), /^Connection lost\. Retrying /);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
  await visitor.slow();
  await row.is('done');
  assert.equal(visitor.sent('POST').length, 1);
  assert.equal(await landfall.stored(await row.url()), await hashOf(file));
  await visitor.leave();
});

test('the end of being offline ends the wait', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const file = await landfall.file('offline.bin', 8 * MiB);
  await visitor.slow(MiB / 2);
  await visitor.choose(file);
  const row = visitor.row('offline.bin');
  await row.midway(0.1);
  // Paused, since the browser lets requests in progress pass when it is made to play offline.
  await row.press('Pause');
  await visitor.offline();
  await row.press('Continue');
  // By then the waits have grown to 8 s, less or more by chance.
  await until(async () => /^Connection lost\. Retrying in [5-9] seconds/.test(await row.status()), 'a long wait');
  await visitor.slow();
  await until(async () => (await row.state()) !== 'waiting', 'going on', 3000);
  await row.is('done');
  assert.equal(visitor.sent('POST').length, 1);
  assert.equal(await landfall.stored(await row.url()), await hashOf(file));
  await visitor.leave();
});

test('behind a proxy that strips a prefix everything still finds its way', async () => {
  const proxy = http.createServer((request, response) => {
    if (!request.url.startsWith('/deep/down/')) {
      response.writeHead(404).end();
      return;
    }
    const { port } = new URL(landfall.endpoint);
    // As a proxy does that nobody told about the prefix: the server sees its own name only.
    const headers = { ...request.headers, host: `127.0.0.1:${port}` };
    const upstream = http.request({
      host: '127.0.0.1', port, method: request.method, path: request.url.slice('/deep/down'.length), headers,
    }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    upstream.on('error', () => response.destroy());
    request.pipe(upstream);
  });
  await new Promise((resolve) => { proxy.listen(0, '127.0.0.1', resolve); });
  const origin = `http://localhost:${proxy.address().port}`;
  try {
    const visitor = await Visitor.open(browser, `${origin}/deep/down/`);
    const file = await landfall.file('deep.bin', 2 * MiB);
    await visitor.choose(file);
    const row = await visitor.row('deep.bin').is('done');
    const url = await row.url();
    assert.ok(url.startsWith(`${origin}/deep/down/files/`), url);
    assert.equal(await landfall.stored(url), await hashOf(file));
    assert.equal((await fetch(url)).status, 200);
    for (const command of ['#landfall-upload', '#curl-once']) {
      assert.match(await visitor.tab.locator(command).textContent(), /'http:\/\/localhost:\d+\/deep\/down\/files\/'/);
    }
    await visitor.leave();
  } finally {
    proxy.closeAllConnections();
    proxy.close();
  }
});

test('the address of an upload is looked for where the endpoint was reached', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const cases = [
    ['https://a/files/1', 'https://a/files/', 'https://a/files/1'],
    ['/files/1', 'https://a/files/', 'https://a/files/1'],
    ['1', 'https://a/files/', 'https://a/files/1'],
    ['http://inner:8080/files/1', 'https://a/files/', 'https://a/files/1'],
    ['http://inner/files/1', 'https://a/x/files/', 'https://a/x/files/1'],
    ['http://inner/files/2026/11/1?k=v', 'https://a/x/y/files/', 'https://a/x/y/files/2026/11/1?k=v'],
    ['http://inner/files/1', 'https://a/x/files', 'https://a/x/files/1'],
    ['http://inner/1', 'https://a/', 'https://a/1'],
    ['https://other/elsewhere/1', 'https://a/files/', 'https://other/elsewhere/1'],
  ];
  const found = await visitor.tab.evaluate(async (all) => {
    const { adoptLocation } = await import('./_landfall/http.js');
    return all.map(([location, endpoint]) => adoptLocation(location, endpoint));
  }, cases);
  assert.deepEqual(found, cases.map(([, , expected]) => expected));
  await visitor.leave();
});

test('figures are told in plain words', async () => {
  const visitor = await Visitor.open(browser, landfall.page);
  const told = await visitor.tab.evaluate(async () => {
    const { SpeedMeter, bytes, percent, timeLeft } = await import('./_landfall/format.js');
    const meter = new SpeedMeter();
    const rates = [meter.rate];
    for (let second = 0; second <= 20; second += 1) meter.sample(second * 1000, second * 1000);
    rates.push(Math.round(meter.rate));
    meter.sample(0, 21_000);
    rates.push(Math.round(meter.rate));
    for (let second = 22; second <= 60; second += 1) meter.sample((second - 21) * 5000, second * 1000);
    rates.push(Math.round(meter.rate / 100) * 100);
    meter.reset();
    rates.push(meter.rate);
    return {
      bytes: [0, 1, 999, 1000, 1_949, 99_949, 99_950, 999_499, 999_500, 1_234_567, 5e12, 3e18].map(bytes),
      percent: [percent(0, 0), percent(0, 5), percent(999, 1000), percent(1000, 1000)],
      timeLeft: [0, 12, 54, 60, 120, 3600, 9000, 200_000].map(timeLeft),
      rates,
    };
  });
  assert.deepEqual(told, {
    bytes: ['0 bytes', '1 byte', '999 bytes', '1 kB', '1.9 kB', '99.9 kB', '100 kB', '999 kB', '1 MB', '1.2 MB', '5 TB', '3000 PB'],
    percent: [100, 0, 99, 100],
    timeLeft: ['a few seconds', '15 seconds', '55 seconds', 'about a minute', 'about 2 minutes', 'about an hour', 'about 2.5 hours', 'about 2 days'].map((time) => `${time} left`),
    rates: [null, 1000, 1000, 5000, null],
  });
  await visitor.leave();
});
