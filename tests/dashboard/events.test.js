// Events that the application never took.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';

import { Application, Operator, Upload, launch, start, test, until } from './harness.js';

let browser;
let landfall;
let application;
before(async () => {
  browser = await launch();
  application = await Application.start();
  landfall = await start(
    '-hooks-http', application.url, '-hooks-enabled-events', 'post-finish', '-hooks-http-retry', '0',
    '-events-retry-for', '1s',
  );
});
after(async () => {
  await browser?.close();
  await landfall?.stop();
  await application?.stop();
});

test('they are shown, tried again, and dropped', async () => {
  const operator = await Operator.open(browser, landfall);
  const { tab } = operator;
  await operator.says(tab.locator('#dead-none'), /Every event has arrived/);
  for (const name of ['one.txt', 'two.txt', 'three.txt', 'four.txt']) await Upload.whole(landfall, name, 10);
  const events = tab.locator('#dead > li');
  await until(async () => (await events.count()) === 4, 'four events to be given up on');
  await operator.says(events.filter({ hasText: 'one.txt' }), /post-finish of one\.txt.*500.*http · [\d,]+ attempts? · given up/s);
  await operator.says(tab.locator('#dead-count'), /^4$/);
  await operator.says(tab.locator('#health'), /Trouble/);
  await operator.says(tab.locator('#well'), /Trouble: hooks/);

  // On a slow machine a sentence may have gone before anybody looks.
  await tab.evaluate(() => {
    const place = document.getElementById('announcer');
    globalThis.said = [];
    new MutationObserver(() => globalThis.said.push(place.textContent)).observe(place, { childList: true });
  });
  const says = (sentence) => tab.evaluate((words) => globalThis.said.some((all) => all.includes(words)), sentence);

  application.ill = false;
  await tab.getByRole('button', { name: 'Retry post-finish of one.txt' }).click();
  await until(() => application.told.length === 1, 'one event to arrive');
  assert.equal(application.told[0].Event.Upload.MetaData.filename, 'one.txt');
  await until(async () => (await events.count()) === 3, 'it to go from the list');

  await tab.getByRole('button', { name: 'Drop post-finish of two.txt' }).click();
  const dialog = tab.getByRole('dialog', { name: 'Drop for good?' });
  await dialog.getByRole('button', { name: 'Keep' }).click();
  assert.equal(await events.count(), 3);
  await tab.getByRole('button', { name: 'Drop post-finish of two.txt' }).click();
  await dialog.getByRole('button', { name: 'Drop', exact: true }).click();
  await until(async () => (await events.count()) === 2, 'two to be left');

  // Of many sentences at once only the first few are said.
  await until(() => says('1 event dropped.'), 'the drop to be said');
  await tab.getByRole('button', { name: 'Retry all' }).click();
  await until(() => says('2 events tried again.'), 'it to be said');
  await until(() => application.told.length === 3, 'the rest to arrive');
  await operator.says(tab.locator('#dead-none'), /Every event has arrived/);
  await operator.says(tab.locator('#well'), /All is well/);
  await operator.says(tab.locator('#outbox'), /nothing waits/);
  const names = application.told.map(({ Event }) => Event.Upload.MetaData.filename).toSorted();
  assert.deepEqual(names, ['four.txt', 'one.txt', 'three.txt']);
  await operator.leave();
});
