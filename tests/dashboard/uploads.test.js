// Active and past uploads on the dashboard.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';

import { Application, KEY, MB, Operator, Upload, api, launch, start, test, testInBrowsers, until } from './harness.js';

let browser;
before(async () => { browser = await launch(); });
after(async () => { await browser?.close(); });

/** Runs a test with a separate server. */
async function withServer(run, ...flags) {
  const landfall = await start(...flags);
  try {
    await run(landfall);
  } finally {
    await landfall.stop();
  }
}

test('without uploads, the page explains how to start', () => withServer(async (landfall) => {
  const operator = await Operator.open(browser, landfall);
  const { tab } = operator;
  await operator.says(tab.locator('#live-none'), /No active uploads.*tus-js-client/s);
  await operator.says(tab.locator('#rows-none'), /No uploads yet\./);
  await operator.says(tab.locator('#dead-none'), /No hooks configured/);
  await operator.says(tab.locator('#throughput-summary'), /No data received/);
  await operator.says(tab.locator('#health-status'), /^Healthy$/);
  await operator.says(tab.locator('.brand'), /harbour/);
  await operator.says(tab.locator('#sum-live'), /^0$/);
  await operator.leave();
}));

testInBrowsers('an upload is shown from creation to completion', () => withServer(async (landfall) => {
  const operator = await Operator.open(browser, landfall);
  const { tab } = operator;
  await operator.says(tab.locator('#link'), /live/);
  // So long that a slow browser sees it in progress.
  const upload = await Upload.create(landfall, 'voyage.mp4', 160 * MB);
  const entry = operator.live('voyage.mp4');
  await operator.says(entry, /Waiting for the client/);
  await operator.says(operator.row('voyage.mp4'), /Waiting for the client/);
  const stop = upload.flow(MB);
  const figures = entry.locator('.figures');
  await operator.says(figures, /^\d+ % · [\d.]+ MB of 160 MB · [\d.]+ MB\/s · .* left$/);
  await operator.says(entry, /Receiving.*\n? *on harbour/s);
  const bar = entry.getByRole('progressbar', { name: 'voyage.mp4' });
  const early = Number(await bar.getAttribute('value'));
  await until(async () => Number(await bar.getAttribute('value')) > early + 0.1, 'the bar to move');
  await operator.says(tab.locator('#sum-live'), /^1$/);
  await operator.says(tab.locator('#sum-received'), /^1 receiving, 0 waiting, 0 granted$/);
  await operator.says(tab.locator('#sum-rate'), /[1-9].* [kM]B\/s/);
  await operator.says(operator.row('voyage.mp4'), /Receiving/);
  stop();
  upload.send(160 * MB - upload.sent);
  await upload.end();
  await operator.says(entry, /Completed/);
  await operator.says(tab.locator('#announcer'), /voyage\.mp4: completed\./);
  await operator.says(operator.row('voyage.mp4'), /Completed.*160 MB/);
  await operator.says(tab.locator('#sum-completed'), /^1$/);
  await operator.says(tab.locator('#sum-bytes'), /^160 MB$/);
  await entry.waitFor({ state: 'detached' });
  await operator.says(tab.locator('#live-none'), /No active uploads\./);
  // The chart is refreshed periodically.
  await operator.says(tab.locator('#throughput-summary'), /^160 MB in total, peak .* on .*\d/);
  await tab.getByText('Show as a table').click();
  await operator.says(tab.locator('#minutes tr').first(), /:/);
  assert.equal(await tab.locator('#minutes tr').count(), 60);
  assert.ok(await tab.locator('#chart .bar').count() >= 1);
  await operator.leave();
}));

testInBrowsers('a cancelled upload stops at once and is removed', () => withServer(async (landfall) => {
  const operator = await Operator.open(browser, landfall);
  const { tab } = operator;
  const upload = await Upload.create(landfall, 'mistake.iso', 400 * MB);
  const stop = upload.flow(4 * MB);
  const entry = operator.live('mistake.iso');
  await operator.says(entry, /Receiving/);
  const cancel = entry.getByRole('button', { name: 'Cancel mistake.iso' });
  await cancel.click();
  const dialog = tab.getByRole('dialog', { name: 'Cancel this upload?' });
  await operator.says(dialog, /mistake\.iso: the transfer is stopped, and the .* are deleted/);
  await tab.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  await cancel.click();
  await dialog.getByRole('button', { name: 'Keep uploading' }).click();
  await dialog.waitFor({ state: 'hidden' });
  assert.equal(await upload.status(), 200);
  await cancel.click();
  await dialog.getByRole('button', { name: 'Cancel the upload' }).click();
  await operator.says(entry, /Cancelled/);
  const end = await upload.answer;
  stop();
  assert.notEqual(end, 204, 'the client gets an error');
  await until(async () => [404, 410].includes(await upload.status()), 'the upload to be gone');
  assert.equal(await landfall.count(), 0, 'nothing of it is left');
  await operator.says(operator.row('mistake.iso'), /Cancelled/);
  await operator.says(operator.row('mistake.iso'), /cancelled by an operator/);
  await operator.says(tab.locator('#sum-why'), /0 failed or denied, 1 cancelled/);
  await operator.leave();
}));

testInBrowsers('uploads are found by a part of the name and state, and paginated', () => withServer(async (landfall) => {
  for (let number = 1; number <= 45; number += 1) {
    await Upload.whole(landfall, `scan-${String(number).padStart(2, '0')}.png`, 10);
  }
  await Upload.create(landfall, '<b>&"letter"', 10);
  const operator = await Operator.open(browser, landfall);
  const { tab } = operator;
  const rows = tab.locator('#rows tbody tr');
  const names = () => tab.locator('#rows .name').allTextContents();
  await until(async () => (await rows.count()) === 20, 'the first page');
  assert.equal((await names())[0], '<b>&"letter"');
  assert.equal(await tab.getByRole('button', { name: 'Newer' }).isDisabled(), true);
  await tab.getByRole('button', { name: 'Older' }).click();
  await operator.says(tab.locator('#page'), /^Page 2$/);
  await tab.getByRole('button', { name: 'Older' }).click();
  await operator.says(tab.locator('#page'), /^Page 3$/);
  assert.equal((await names()).at(-1), 'scan-01.png');
  assert.equal(await tab.evaluate(() => document.activeElement.id), 'newer', 'the focus isn’t lost');
  await tab.getByRole('button', { name: 'Newer' }).click();
  await operator.says(tab.locator('#page'), /^Page 2$/);

  const search = tab.getByRole('searchbox', { name: 'Part of the name, or start of principal or id' });
  await search.fill('scan-0');
  await until(async () => (await rows.count()) === 9, 'nine that begin so');
  await search.fill('N-0');
  await until(async () => (await rows.count()) === 9, 'nine that contain this');
  assert.equal(await tab.locator('#pages').isHidden(), true);
  await tab.getByLabel('State').selectOption('Cancelled');
  await operator.says(tab.locator('#rows-none'), /No matching uploads\./);
  await search.fill('');
  await tab.getByLabel('State').selectOption('Active');
  await until(async () => (await rows.count()) === 1, 'the one that isn’t complete');
  assert.deepEqual(await names(), ['<b>&"letter"']);
  await search.fill('no such name');
  await operator.says(tab.locator('#rows-none'), /No matching uploads\./);
  await operator.leave();
}));

testInBrowsers('several uploads are cancelled and deleted at once', () => withServer(async (landfall) => {
  for (const name of ['one.txt', 'two.txt', 'three.txt']) await Upload.whole(landfall, name, 10);
  const running = await Upload.create(landfall, 'four.txt', 10);
  const operator = await Operator.open(browser, landfall);
  const { tab } = operator;
  const rows = tab.locator('#rows tbody tr');
  await until(async () => (await rows.count()) === 4, 'four rows');
  assert.equal(await tab.locator('#selection').isHidden(), true);
  await tab.getByLabel('Select all uploads of this page').check();
  await operator.says(tab.locator('#selection'), /4 uploads selected.*Cancel 1 ….*Delete 3 …/s);
  await tab.getByLabel('Select two.txt').uncheck();
  await tab.getByRole('button', { name: 'Delete 2 …' }).click();
  const dialog = tab.getByRole('dialog', { name: 'Delete 2 uploads?' });
  await dialog.getByRole('button', { name: 'Delete them' }).click();
  await until(async () => (await rows.count()) === 2, 'two rows');
  assert.equal(await landfall.count(), 2);
  await operator.says(tab.locator('#selection'), /1 upload selected.*Cancel 1 …/s);
  await tab.getByRole('button', { name: 'Cancel 1 …' }).click();
  await tab.getByRole('button', { name: 'Cancel them' }).click();
  await operator.says(operator.row('four.txt'), /Cancelled/);
  assert.equal(await running.status(), 404);
  await operator.leave();
}));

testInBrowsers('a deleted upload is not among the completed ones, and a denied one tells why', async (t) => {
  const application = await Application.start();
  t.after(() => application.stop());
  application.isFailing = false;
  application.answer = ({ Type, Event }) => (Type === 'pre-finish' && Event.Upload.MetaData.filename === 'virus.exe'
    ? { RejectUpload: true, HTTPResponse: { StatusCode: 422, Body: 'This file contains a virus.' } } : {});
  await withServer(async (landfall) => {
    const gone = await Upload.whole(landfall, 'gone.txt', 10);
    await Upload.whole(landfall, 'there.txt', 20);
    assert.equal((await fetch(gone.url, { method: 'DELETE', headers: { 'Tus-Resumable': '1.0.0' } })).status, 204);
    const denied = await Upload.create(landfall, 'virus.exe', 30);
    denied.send(30);
    denied.request.end();
    assert.equal(await denied.answer, 422);
    const operator = await Operator.open(browser, landfall);
    const { tab } = operator;
    await operator.says(operator.row('gone.txt'), /by the client.*Removed/s);
    assert.equal(await operator.row('gone.txt').getByRole('link', { name: /Download/ }).count(), 0);
    await operator.says(operator.row('virus.exe'), /422 This file contains a virus\..*Denied/s);
    await operator.says(tab.locator('#sum-completed'), /^1$/);
    await operator.says(tab.locator('#sum-bytes'), /^20 B, 1 removed since$/);
    await tab.getByLabel('State').selectOption('Removed');
    await until(async () => (await tab.locator('#rows tbody tr').count()) === 1, 'the removed one');
    await operator.openDetail('gone.txt');
    await operator.says(tab.locator('#detail-state'), /^Removed$/);
    await operator.says(tab.locator('#detail-times'), /Completed.*Removed/s);
    await tab.getByRole('link', { name: '← All uploads' }).click();
    // Of the API's state `failed`, as the documentation says.
    await tab.getByLabel('State').selectOption('Failed or denied');
    await until(async () => (await tab.locator('#rows tbody tr').count()) === 1, 'the denied one');
    await operator.says(operator.row('virus.exe'), /Denied/);
    await tab.getByLabel('State').selectOption('Any');
    await operator.openDetail('virus.exe');
    await operator.says(tab.locator('#detail-data'), /Client address127\.0\.0\.1$/);
    await tab.getByRole('button', { name: 'Delete virus.exe' }).waitFor();
    await tab.getByRole('link', { name: '← All uploads' }).click();
    // Nothing of it is left to delete.
    await operator.row('gone.txt').getByRole('button', { name: 'Remove from the list gone.txt' }).click();
    const dialog = tab.getByRole('dialog', { name: 'Remove this upload from the list?' });
    await operator.says(dialog, /gone\.txt: it is no longer in the store\. Its entry in the list is deleted, with anything that may remain of it\./);
    await dialog.getByRole('button', { name: 'Remove', exact: true }).click();
    await operator.row('gone.txt').waitFor({ state: 'detached' });
    assert.equal(await landfall.count(), 2);
    const { uploads } = (await api(landfall, 'uploads?search=virus')).body;
    assert.deepEqual(uploads.map(({ state, client }) => [state, client]), [['failed', '127.0.0.1']]);
    await operator.leave();
  }, '-hooks-http', application.url, '-hooks-enabled-events', 'pre-finish');
});

test('without the event stream, the page polls', () => withServer(async (landfall) => {
  const operator = await Operator.arrive(browser, landfall);
  const { tab } = operator;
  await tab.route('**/api/events*', (route) => route.abort());
  await operator.logIn(KEY);
  await operator.says(tab.locator('#link'), /polling every few seconds/);
  const upload = await Upload.create(landfall, 'by-asking.bin', 10 * MB);
  await operator.says(operator.live('by-asking.bin'), /Waiting/);
  const stop = upload.flow(MB / 2);
  await operator.says(operator.live('by-asking.bin').locator('.figures'), /^\d+ % · [\d.]+ [kM]B of 10 MB · /);
  stop();
  upload.send(10 * MB - upload.sent);
  await upload.end();
  await operator.live('by-asking.bin').waitFor({ state: 'detached' });
  await operator.says(operator.row('by-asking.bin'), /Completed/);
  await operator.leave();
}));

test('the page reports an unreachable server and recovers', () => withServer(async (landfall) => {
  const operator = await Operator.open(browser, landfall);
  const { tab } = operator;
  await operator.says(tab.locator('#link'), /live/);
  const port = new URL(landfall.origin).port;
  await landfall.halt('SIGKILL');
  await operator.says(tab.locator('#notice'), /can’t be reached/);
  await landfall.run(port);
  await tab.locator('#notice').waitFor({ state: 'hidden' });
  await operator.says(tab.locator('#link'), /live/);
  const upload = await Upload.create(landfall, 'afterwards.bin', 10);
  await operator.says(operator.live('afterwards.bin'), /Waiting/);
  upload.send(10);
  await upload.end();
  await operator.says(operator.row('afterwards.bin'), /Completed/);
  await operator.leave();
}));
