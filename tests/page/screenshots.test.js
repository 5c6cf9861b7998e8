// Pictures of the upload page.

import { after, before } from 'node:test';
import { fileURLToPath } from 'node:url';

import { NOW, VIEWS, compare } from '../dashboard/screenshots.js';
import { Landfall, Visitor, launch, test } from './harness.js';

const FOLDER = fileURLToPath(new URL('screenshots', import.meta.url));

let browser;
let landfall;
let files;
before(async () => {
  browser = await launch();
  landfall = await Landfall.start();
  files = await Promise.all([['report.pdf', 2e6], ['holiday.mp4', 8e6], ['broken.zip', 3e6]].map(([name, size]) => landfall.file(name, size)));
});
after(async () => {
  await browser?.close();
  await landfall?.stop();
});

for (const [view, options] of VIEWS) {
  test(`the upload page looks as before (${view})`, async () => {
    const visitor = await Visitor.open(browser, landfall.page, options);
    const { tab } = visitor;
    // The version changes with each release.
    await tab.locator('footer').evaluate((footer) => { footer.hidden = true; });
    await compare(tab, FOLDER, `start-${view}`);
    // The server refuses one file; another one is paused after its creation.
    let isHeld = false;
    await tab.route('**/files/**', async (route) => {
      const request = route.request();
      const metadata = request.headers()['upload-metadata'] ?? '';
      const isBroken = metadata.includes(Buffer.from('broken.zip').toString('base64'));
      if (request.method() === 'POST' && isBroken) await route.fulfill({ status: 403, body: 'This type of file is not accepted.' });
      // Held, so that no byte of the paused one is sent.
      else if (!(isHeld && request.method() === 'PATCH')) await route.fallback();
    });
    await visitor.choose([files[0]]);
    await visitor.row('report.pdf').is('done');
    await visitor.choose([files[2]]);
    await visitor.row('broken.zip').is('failed');
    isHeld = true;
    await visitor.choose([files[1]]);
    await visitor.row('holiday.mp4').is('uploading');
    await visitor.row('holiday.mp4').press('Pause');
    await visitor.row('holiday.mp4').is('paused');
    await compare(tab, FOLDER, `rows-${view}`);
    await visitor.leave();
  });
}
