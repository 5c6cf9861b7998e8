// Dead letters.

import assert from 'node:assert/strict';

import { Operator, Upload, start, startWithFailingHooks, test, testInBrowsers, until } from './harness.js';

const { browser, landfall, application } = await startWithFailingHooks('post-finish');

testInBrowsers('dead letters are listed, retried and deleted', async () => {
  const operator = await Operator.open(browser, landfall);
  const { tab } = operator;
  await operator.says(tab.locator('#dead-none'), /All events were delivered/);
  for (const name of ['one.txt', 'two.txt', 'three.txt', 'four.txt']) await Upload.whole(landfall, name, 10);
  const group = tab.locator('#dead > li');
  await operator.says(group, /^\s*4 × post-finish\s*unexpected response.*500.*the database is locked.*http · dead since/s);
  const events = group.locator('details li');
  // It stays open when the group changes.
  await tab.getByText('Show the events').click();
  await until(async () => (await events.count()) === 4, 'four dead letters');
  await operator.says(events.filter({ hasText: 'one.txt' }), /post-finish of one\.txt.*[\d,]+ attempts? · dead since/s);
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
  await operator.says(tab.locator('#conditions'), /Events that could not be delivered \(dead letters\): 3\./);

  await tab.getByRole('button', { name: 'Delete post-finish of two.txt' }).click();
  const dialog = tab.getByRole('dialog', { name: 'Delete permanently?' });
  await dialog.getByRole('button', { name: 'Keep' }).click();
  assert.equal(await events.count(), 3);
  await tab.getByRole('button', { name: 'Delete post-finish of two.txt' }).click();
  await dialog.getByRole('button', { name: 'Delete', exact: true }).click();
  await until(async () => (await events.count()) === 2, 'two to be left');

  // Of a large batch, only the first few sentences are announced.
  await until(() => says('1 event deleted.'), 'the announcement');
  await tab.getByRole('button', { name: 'Retry all 2 × post-finish' }).click();
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

test('events that are retried are listed, and delivered at once on request', async () => {
  const retrying = await start('-hooks-http', application.url, '-hooks-enabled-events', 'post-finish', '-hooks-http-retry', '0');
  application.isFailing = true;
  const operator = await Operator.open(browser, retrying);
  const { tab } = operator;
  await Upload.whole(retrying, 'patient.txt', 10);
  const group = tab.locator('#dead > li');
  await operator.says(group, /1 × post-finish.*the database is locked.*http · retried since/s);
  assert.equal(await tab.locator('#dead-count').isHidden(), true, 'it is no dead letter');
  assert.equal(await group.getByRole('button', { name: /Delete/ }).count(), 0);
  await until(() => retrying.log.filter((line) => line.includes('next_attempt=')).length >= 2, 'lines of two attempts');
  application.isFailing = false;
  const before = application.events.length;
  await group.getByRole('button', { name: 'Retry 1 × post-finish' }).click();
  await tab.getByRole('dialog').getByRole('button', { name: 'Retry', exact: true }).click();
  await until(() => application.events.length === before + 1, 'the event to arrive');
  await operator.says(tab.locator('#dead-none'), /All events were delivered/);
  await operator.leave();
  await retrying.stop();
});

test('events that wait for a receiver that is down are counted', async () => {
  const waiting = await start('-hooks-http', application.url, '-hooks-enabled-events', 'post-finish', '-hooks-http-retry', '0');
  application.isFailing = true;
  const operator = await Operator.open(browser, waiting);
  const { tab } = operator;
  const before = application.events.length;
  const files = 120;
  // Twenty failures over at least a second open the circuit breaker.
  for (let at = 0; at < files; at += 1) {
    await Upload.whole(waiting, `${at}.txt`, 10);
    if (at < 40) await new Promise((resume) => { setTimeout(resume, 50); });
  }
  await operator.says(tab.locator('#dead-waiting'), /^\d+ more events for http wait: while it fails, one is tried at a time, the next (now|within \d+ s)\./);
  await operator.says(tab.locator('#dead-count'), new RegExp(`^${files}$`));
  await operator.says(tab.locator('#health-status'), /undelivered events/);
  application.isFailing = false;
  await until(() => application.events.length === before + files, 'the events to arrive');
  await operator.says(tab.locator('#dead-none'), /All events were delivered/);
  await operator.says(tab.locator('#dead-waiting'), /^$/);
  assert.equal(await tab.locator('#dead-count').isHidden(), true);
  await operator.leave();
  await waiting.stop();
});
