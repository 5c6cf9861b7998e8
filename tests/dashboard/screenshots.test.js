// Pictures of the dashboard, with fixed data.

import { after, before } from 'node:test';
import { fileURLToPath } from 'node:url';

import { KEY, Operator, launch, start, test } from './harness.js';
import { answer } from './fixtures.js';
import { NOW, VIEWS, compare } from './screenshots.js';

const FOLDER = fileURLToPath(new URL('screenshots', import.meta.url));

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

for (const [view, options] of VIEWS) {
  test(`the dashboard looks as before (${view})`, async () => {
    const operator = await Operator.arrive(browser, landfall, options);
    const { tab } = operator;
    await tab.clock.setFixedTime(NOW);
    await compare(tab, FOLDER, `login-${view}`);
    await answer(tab);
    await operator.logIn(KEY);
    await operator.says(tab.locator('#dead'), /post-finish/);
    await operator.says(tab.locator('#keys'), /portal/);
    await operator.says(tab.locator('#links'), /Photos for Ann/);
    await operator.says(tab.locator('#link'), /polling/);
    await operator.row('scan-17.pdf').waitFor();
    await operator.live('backup.tar.zst').waitFor();
    await operator.says(tab.locator('#throughput-summary'), /in total/);
    // The version changes with each release.
    await tab.locator('footer').evaluate((footer) => { footer.hidden = true; });
    await compare(tab, FOLDER, `start-${view}`);
    await operator.openDetail('scan-17.pdf');
    await operator.says(tab.locator('#detail-events'), /post-finish/);
    await tab.evaluate(() => document.activeElement.blur());
    await compare(tab, FOLDER, `detail-${view}`);
    await operator.leave();
  });
}
