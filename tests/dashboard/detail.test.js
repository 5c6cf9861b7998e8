// The page of an upload, actions on it and their lines in the log.

import assert from 'node:assert/strict';

import { KEY, MB, Operator, Upload, api, startWithFailingHooks, test, testInBrowsers, until } from './harness.js';

const PHONE = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true };

const { browser, landfall, application } = await startWithFailingHooks('post-finish,post-terminate', '-expire-finished', '90d');

/** The lines of an action in the log. */
const audited = (action) => landfall.log.filter((line) => line.includes(` audit=${action} `) || line.includes(` audit="${action}" `));

test('an upload without a client reads as waiting in every place', async () => {
  const upload = await Upload.create(landfall, 'pause.bin', 8 * MB);
  upload.send(2 * MB);
  const stop = upload.flow(10);
  const operator = await Operator.open(browser, landfall);
  const { tab } = operator;
  await operator.says(operator.live('pause.bin'), /Receiving/);
  await operator.says(operator.row('pause.bin'), /Receiving/);
  stop();
  upload.request.destroy();
  for (const place of [operator.live('pause.bin'), operator.row('pause.bin')]) {
    await operator.says(place, /Waiting for the client/);
  }
  await operator.says(tab.locator('#sum-received'), /^0 receiving, 1 waiting/);
  assert.doesNotMatch(await operator.live('pause.bin').textContent(), /MB\/s/);
  await operator.openDetail('pause.bin');
  await operator.says(tab.locator('#detail-state'), /^Waiting for the client$/);
  await operator.says(tab.locator('#detail-figures'), /^25 % · 2 MB of 8 MB$/);
  // A silent connection is no transfer either.
  const silent = await Upload.create(landfall, 'silent.bin', 8 * MB);
  silent.send(MB);
  const stopSilent = silent.flow(10);
  await tab.goBack();
  await operator.says(operator.live('silent.bin'), /Receiving/);
  stopSilent();
  await operator.says(operator.live('silent.bin'), /Waiting for the client/);
  silent.request.destroy();
  await operator.leave();
});

test('the page of an upload has an address of its own', async () => {
  const upload = await Upload.whole(landfall, 'report <1>.pdf', 3 * MB);
  const id = new URL(upload.url).pathname.split('/').at(-1);
  const operator = await Operator.open(browser, landfall);
  const { tab } = operator;
  await tab.evaluate(() => scrollTo(0, 200));
  await operator.openDetail('report <1>.pdf');
  assert.match(new URL(tab.url()).hash, /^#\/uploads\/\d+$/);
  assert.equal(await tab.title(), 'report <1>.pdf · Landfall');
  assert.equal(await tab.evaluate(() => document.activeElement.id), 'detail-title');
  const check = async () => {
    await operator.says(tab.locator('#detail-state'), /^Completed$/);
    await operator.says(tab.locator('#detail-id'), new RegExp(`^${id}$`));
    await operator.says(tab.locator('#detail-data'), new RegExp(`Size3 MBReceived3 MB.*${landfall.data}/${id}.*harbour`));
    await operator.says(tab.locator('#detail-times'), /Created.*Last byte.*Completed.*Removed at/);
    await operator.says(tab.locator('#detail-grant'), /None: created without a grant/);
    await operator.says(tab.locator('#detail-metadata'), /filenamereport <1>\.pdf/);
    await operator.says(tab.locator('#offsets-note'), /stores no history/);
  };
  await check();
  for (const time of await tab.locator('#detail-times time').all()) {
    assert.match(await time.textContent(), /[A-Z][a-z]{2} \d/, 'with the date');
    assert.match(await time.getAttribute('title'), /:\d\d:\d\d/, 'with seconds');
    assert.match(await time.getAttribute('datetime'), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  }
  await tab.reload();
  await check();
  await operator.visitor.context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await tab.getByRole('button', { name: 'Copy the id' }).click();
  await operator.says(tab.locator('#copy-state'), /Copied/);
  assert.equal(await tab.evaluate(() => navigator.clipboard.readText()), id);
  assert.equal(await tab.getByRole('link', { name: 'Download report <1>.pdf' }).getAttribute('href'), upload.url);
  await tab.goBack();
  await tab.getByRole('heading', { name: 'Active uploads' }).waitFor();
  assert.equal(await tab.title(), 'Uploads · Landfall');
  await tab.goto(`${landfall.origin}/admin/#/uploads/999999`);
  await operator.says(tab.locator('#detail-error'), /There is no such upload/);
  await operator.leave();
});

testInBrowsers('the received bytes of an open page become a chart', async () => {
  const upload = await Upload.create(landfall, 'growing.bin', 60 * MB);
  const stop = upload.flow(MB / 2);
  const operator = await Operator.open(browser, landfall);
  const { tab } = operator;
  await operator.openDetail('growing.bin');
  await operator.says(tab.locator('#offsets title'), /^Received bytes since this page was opened: from .* to .* MB\.$/);
  await until(async () => (await tab.locator('#offsets .line').getAttribute('points'))?.split(' ').length > 3, 'some points');
  await operator.says(tab.locator('#offsets-note'), /Since this page was opened\. The server stores no history/);
  await tab.getByRole('button', { name: 'Cancel growing.bin' }).click();
  await tab.getByRole('dialog').getByRole('button', { name: 'Cancel the upload' }).click();
  await operator.says(tab.locator('#detail-state'), /^Cancelled$/);
  await operator.says(tab.locator('#detail-reason'), /cancelled by an operator/);
  stop();
  await operator.leave();
});

testInBrowsers('events are shown and retried on the page of their upload', async () => {
  application.isFailing = true;
  await Upload.whole(landfall, 'unheard.txt', 10);
  await until(async () => (await api(landfall, 'dead-letters')).body.events.some(({ filename }) => filename === 'unheard.txt'), 'a dead letter');
  const operator = await Operator.open(browser, landfall);
  const { tab } = operator;
  await operator.openDetail('unheard.txt');
  await operator.says(tab.locator('#detail-events'), /post-finish.*500.*http · undelivered · \d+ attempts? · dead since/s);
  const [, failed] = (await tab.locator('#detail-events').textContent()).match(/(\d+) attempts?/);
  application.isFailing = false;
  await tab.getByRole('button', { name: 'Retry post-finish of unheard.txt' }).click();
  await tab.getByRole('dialog', { name: 'Deliver again?' }).getByRole('button', { name: 'Retry', exact: true }).click();
  // The retry is one more.
  const delivered = `http · delivered after ${Number(failed) + 1} attempts · emitted .*:\\d\\d.*, delivered .*:\\d\\d`;
  await operator.says(tab.locator('#detail-events'), new RegExp(`^\\s*post-finish\\s*Before: .*500.*${delivered}`, 's'));
  await operator.says(tab.locator('#detail-events-none'), /^$/);
  for (const time of await tab.locator('#detail-events time').all()) {
    assert.ok(Date.now() - Date.parse(await time.getAttribute('datetime')) < 600_000);
  }
  await until(() => application.events.some(({ Event }) => Event.Upload.MetaData.filename === 'unheard.txt'), 'the event to arrive');
  assert.match(audited('retry events').at(-1), /operator="admin key" client=127\.0\.0\.1 upload=[0-9a-f]{32}/);
  await operator.leave();
});

testInBrowsers('a finished upload is deleted as by a termination', async () => {
  application.isFailing = false;
  const upload = await Upload.whole(landfall, 'obsolete.txt', 10);
  const kept = await Upload.whole(landfall, 'kept.txt', 10);
  const operator = await Operator.open(browser, landfall);
  const { tab } = operator;
  const button = operator.row('obsolete.txt').getByRole('button', { name: 'Delete obsolete.txt' });
  const dialog = tab.getByRole('dialog', { name: 'Delete this upload?' });
  await button.click();
  await tab.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  assert.ok(await button.evaluate((element) => element === document.activeElement), 'the focus returns');
  assert.equal(await upload.status(), 200);
  await operator.openDetail('obsolete.txt');
  await tab.getByRole('button', { name: 'Delete obsolete.txt' }).click();
  await dialog.getByRole('button', { name: 'Delete', exact: true }).click();
  await tab.getByRole('heading', { name: 'Active uploads' }).waitFor();
  await operator.row('obsolete.txt').waitFor({ state: 'detached' });
  assert.ok([404, 410].includes(await upload.status()));
  assert.equal(await kept.status(), 200);
  const ended = () => application.events.find(({ Type, Event }) => Type === 'post-terminate' && Event.Upload.MetaData.filename === 'obsolete.txt');
  await until(ended, 'post-terminate');
  assert.equal(audited('delete').length, 1);
  assert.match(audited('delete')[0], /level=INFO .*operator="admin key" client=127\.0\.0\.1 upload=[0-9a-f]{32}$/);
  await operator.leave();
});

test('logging in and out is in the log, without the key', async () => {
  const counts = [audited('login').length, audited('logout').length];
  const operator = await Operator.open(browser, landfall);
  await operator.tab.getByRole('button', { name: 'Log out' }).click();
  await operator.tab.getByLabel('Admin key').waitFor();
  assert.equal(audited('login').length, counts[0] + 1);
  assert.equal(audited('logout').length, counts[1] + 1);
  assert.match(audited('logout').at(-1), /operator="admin key" client=127\.0\.0\.1/);
  assert.ok(landfall.log.length > 5 && landfall.log.every((line) => !line.includes(KEY)));
  await operator.leave();
});

testInBrowsers('uploads are filtered by the day of their creation', async () => {
  await Upload.whole(landfall, 'today.txt', 10);
  const operator = await Operator.open(browser, landfall);
  const { tab } = operator;
  await operator.row('today.txt').waitFor();
  const today = await tab.evaluate(() => new Date(Date.now() - new Date().getTimezoneOffset() * 60_000).toISOString().slice(0, 10));
  await tab.getByLabel('Created from').fill('2035-01-01');
  await operator.says(tab.locator('#rows-none'), /No matching uploads\./);
  await tab.getByLabel('Created from').fill(today);
  await tab.getByLabel('Created until').fill(today);
  await operator.row('today.txt').waitFor();
  await tab.getByLabel('Created from').fill('');
  await tab.getByLabel('Created until').fill('2020-01-01');
  await operator.says(tab.locator('#rows-none'), /No matching uploads\./);
  await operator.leave();
});

testInBrowsers('throughput is shown for an hour, a day and a week, and by node', async () => {
  await Upload.whole(landfall, 'measured.bin', MB);
  const operator = await Operator.open(browser, landfall);
  const { tab } = operator;
  await operator.says(tab.locator('#throughput-summary'), /in total/);
  for (const [range, minutes, bars] of [['24 hours', 10, 144], ['7 days', 60, 168], ['1 hour', 1, 60]]) {
    await tab.getByLabel('Range').selectOption(range);
    await operator.says(tab.locator('#chart title').first(), new RegExp(`each bar over ${minutes} minutes?\\. .* in total`));
    await tab.locator('#chart-table').evaluate((table) => { table.open = true; });
    await until(async () => (await tab.locator('#minutes tr').count()) === bars, `${bars} rows`);
  }
  await tab.locator('#node').selectOption('harbour');
  await operator.says(tab.locator('#throughput-summary'), /in total/);
  await operator.leave();
});

test('on a phone, health comes first and twenty uploads fit into 2,500 px', async () => {
  for (let number = 0; number < 14; number += 1) await Upload.whole(landfall, `phone-${number}.jpg`, 10);
  for (let number = 0; number < 6; number += 1) await Upload.create(landfall, `waiting-${number}.mov`, 10 * MB);
  const operator = await Operator.open(browser, landfall, PHONE);
  const { tab } = operator;
  await until(async () => (await tab.locator('#rows tbody tr').count()) === 20, 'twenty rows');
  await operator.says(tab.locator('#health-sum'), /checks passed/);
  const { height, logout, title, first, second } = await tab.evaluate(() => {
    const top = (element) => element.getBoundingClientRect().top;
    const [logout, title] = [...document.querySelectorAll('header form button, h1')].map((element) => element.getBoundingClientRect());
    const order = ['system', 'undelivered', 'totals-title', 'active', 'history'].map((id) => [top(document.getElementById(id)), id]);
    order.sort(([one], [other]) => one - other);
    return { height: document.documentElement.scrollHeight, logout, title, first: order[0][1], second: order[1][1] };
  });
  assert.deepEqual([first, second], ['system', 'undelivered']);
  assert.ok(height <= 2500, `${height} px`);
  assert.ok(Math.abs(logout.y + logout.height / 2 - title.y - title.height / 2) < 40, 'one line');
  const rows = await tab.locator('#rows tbody tr').evaluateAll((all) => all.map((row) => row.getBoundingClientRect().height));
  assert.ok(Math.min(...rows) >= 44, `${Math.min(...rows)} px`);
  assert.equal(await tab.locator('#live > li:visible').count(), 3);
  await tab.getByRole('button', { name: 'Show all' }).tap();
  assert.ok(await tab.locator('#live > li:visible').count() >= 6);
  await operator.row('phone-3.jpg').tap();
  await tab.getByRole('heading', { name: 'phone-3.jpg', level: 2 }).waitFor();
  await operator.leave();
});
