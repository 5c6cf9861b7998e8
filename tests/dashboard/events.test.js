// Dead letters.

import assert from 'node:assert/strict';

import { Operator, Upload, startWithFailingHooks, testInBrowsers, until } from './harness.js';

const { browser, landfall, application } = await startWithFailingHooks('post-finish');

testInBrowsers('dead letters are listed, retried and deleted', async () => {
  const operator = await Operator.open(browser, landfall);
  const { tab } = operator;
  await operator.says(tab.locator('#dead-none'), /All events were delivered/);
  for (const name of ['one.txt', 'two.txt', 'three.txt', 'four.txt']) await Upload.whole(landfall, name, 10);
  const events = tab.locator('#dead > li');
  await until(async () => (await events.count()) === 4, 'four dead letters');
  await operator.says(events.filter({ hasText: 'one.txt' }), /post-finish of one\.txt.*500.*http · [\d,]+ attempts? · dead since/s);
  await operator.says(tab.locator('#dead-count'), /^4$/);
  await operator.says(tab.locator('#conditions'), /Unhealthy/);
  await operator.says(tab.locator('#health-status'), /^Unhealthy: hooks, undelivered events$/);

  // Record announcements, which may be replaced before they are checked.
  await tab.evaluate(() => {
    const place = document.getElementById('announcer');
    globalThis.said = [];
    new MutationObserver(() => globalThis.said.push(place.textContent)).observe(place, { childList: true });
  });
  const says = (sentence) => tab.evaluate((words) => globalThis.said.some((all) => all.includes(words)), sentence);

  application.isFailing = false;
  const retry = tab.getByRole('dialog', { name: 'Deliver again?' });
  await tab.getByRole('button', { name: 'Retry post-finish of one.txt' }).click();
  await retry.getByRole('button', { name: 'Retry', exact: true }).click();
  await until(() => application.events.length === 1, 'one event to arrive');
  assert.equal(application.events[0].Event.Upload.MetaData.filename, 'one.txt');
  await until(async () => (await events.count()) === 3, 'it to go from the list');
  // The receiver works again, but three events were never delivered.
  await operator.says(tab.locator('#health-status'), /^Unhealthy: undelivered events$/);
  await operator.says(tab.locator('#conditions'), /Dead letters, which were not delivered: 3\./);

  await tab.getByRole('button', { name: 'Delete post-finish of two.txt' }).click();
  const dialog = tab.getByRole('dialog', { name: 'Delete permanently?' });
  await dialog.getByRole('button', { name: 'Keep' }).click();
  assert.equal(await events.count(), 3);
  await tab.getByRole('button', { name: 'Delete post-finish of two.txt' }).click();
  await dialog.getByRole('button', { name: 'Delete', exact: true }).click();
  await until(async () => (await events.count()) === 2, 'two to be left');

  // Of a large batch, only the first few sentences are announced.
  await until(() => says('1 event deleted.'), 'the announcement');
  await tab.getByRole('button', { name: 'Retry all' }).click();
  await retry.getByRole('button', { name: 'Retry', exact: true }).click();
  await until(() => says('2 events scheduled.'), 'the announcement');
  await until(() => application.events.length === 3, 'the rest to arrive');
  await operator.says(tab.locator('#dead-none'), /All events were delivered/);
  await operator.says(tab.locator('#health-status'), /^Healthy/);
  await operator.says(tab.locator('#outbox'), /none pending/);
  const names = application.events.map(({ Event }) => Event.Upload.MetaData.filename).toSorted();
  assert.deepEqual(names, ['four.txt', 'one.txt', 'three.txt']);
  await operator.leave();
});
