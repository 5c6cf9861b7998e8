// The page for everybody: by keyboard, by screen reader, on a phone, in the dark, and safely.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';

import { Landfall, Visitor, hashOf, launch, test, testInBrowsers, until, violations } from './harness.js';

const MiB = 2 ** 20;

let browser;
let landfall;
before(async () => {
  browser = await launch();
  landfall = await Landfall.start('-max-size', String(50 * MiB));
});
after(async () => {
  await browser?.close();
  await landfall?.stop();
});

/** Brings the page to show a row in each of the common states. */
async function fill(visitor) {
  const long = `minutes-of-the-annual-general-meeting-${'and-all-that-belongs-to-it-'.repeat(4)}.pdf`;
  await visitor.choose(await landfall.file(long, 1000));
  await visitor.row(long).is('done');
  await visitor.choose(await landfall.file('huge.bin', 50 * MiB + 1));
  await visitor.row('huge.bin').is('rejected');
  await visitor.tab.route(landfall.endpoint, async (route) => route.fulfill({ status: 403, body: 'not today', contentType: 'text/plain' }));
  await visitor.choose(await landfall.file('failed.bin', 1000));
  await visitor.row('failed.bin').is('failed');
  await visitor.tab.unroute(landfall.endpoint);
  await visitor.slow(MiB / 2);
  const names = ['running.bin', 'paused.bin', 'waiting.bin', 'next.bin', 'another.bin', 'queued.bin'];
  await visitor.choose(await Promise.all(names.map((name) => landfall.file(name, 10 * MiB))));
  await visitor.row('paused.bin').is('uploading');
  await visitor.row('paused.bin').press('Pause');
  await visitor.row('running.bin').midway(0.01);
  // Held there, so that the row stays in this state.
  await visitor.tab.route(`${landfall.endpoint}*`, (route) => (
    route.request().method() === 'HEAD' ? route.abort() : route.fallback()
  ));
  await visitor.row('waiting.bin').press('Disconnect');
  await visitor.row('waiting.bin').is('waiting');
  assert.equal(await visitor.row('queued.bin').state(), 'queued');
  await visitor.tab.getByText('Upload from the command line').click();
}

for (const [look, options] of Object.entries({
  light: { viewport: { width: 1000, height: 900 }, colorScheme: 'light' },
  dark: { viewport: { width: 1000, height: 900 }, colorScheme: 'dark' },
  phone: { viewport: { width: 375, height: 700 }, isMobile: true, hasTouch: true, colorScheme: 'light' },
})) {
  (options.isMobile ? test : testInBrowsers)(`axe finds nothing to complain of (${look})`, async (t) => {
    const own = await launch(options.colorScheme);
    t.after(() => own.close());
    const visitor = await Visitor.open(own, landfall.demo, options);
    assert.ok(await visitor.tab.evaluate((scheme) => matchMedia(`(prefers-color-scheme: ${scheme})`).matches, options.colorScheme));
    assert.deepEqual(await violations(visitor), []);
    await fill(visitor);
    assert.deepEqual(await violations(visitor), []);
    await visitor.leave();
  });
}

testInBrowsers('nothing sticks out sideways, and everything is large enough to touch', async () => {
  for (const width of [320, 360, 768, 1440]) {
    const visitor = await Visitor.open(browser, landfall.demo, {
      viewport: { width, height: 640 }, isMobile: true, hasTouch: true,
    });
    await fill(visitor);
    const { wide, small } = await visitor.tab.evaluate(() => ({
      wide: document.scrollingElement.scrollWidth - document.documentElement.clientWidth,
      small: [...document.querySelectorAll('button, .button, summary')]
        .map((element) => ({ text: element.textContent, box: element.getBoundingClientRect() }))
        .filter(({ box }) => box.width > 0 && (box.width < 44 || box.height < 44))
        .map(({ text, box }) => `${text} ${box.width}×${box.height}`),
    }));
    assert.equal(wide, 0, `at ${width} px the page is ${wide} px too wide`);
    assert.deepEqual(small, [], `at ${width} px`);
    // For a picture, the driver of Firefox adds a style that the policy of the page blocks.
    if (browser.browserType().name() === 'chromium') {
      const shot = await visitor.tab.screenshot({ fullPage: true });
      assert.equal(shot.readUInt32BE(16), width, 'the picture of the whole page is wider than the screen');
    }
    await visitor.leave();
  }
});

testInBrowsers('everything can be done with the keyboard alone', async () => {
  const visitor = await Visitor.open(browser, landfall.demo);
  const { keyboard } = visitor.tab;
  const focused = () => visitor.tab.evaluate(() => document.activeElement?.innerText?.trim().replace(/\s+/g, ' '));
  const tabTo = async (label) => {
    // Several times through the page: buttons come and go with the state of an upload, on a busy machine late.
    for (let presses = 0; presses < 120; presses += 1) {
      if ((await focused()) === label) return;
      await keyboard.press('Tab');
    }
    assert.fail(`${label} can't be reached; the focus is on ${await focused()}`);
  };
  const seen = async () => visitor.tab.evaluate(() => {
    const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
    return outlineStyle === 'solid' && parseFloat(outlineWidth) >= 2;
  });

  const file = await landfall.file('keys.bin', 20 * MiB);
  // The upload must not finish before these key presses on a busy machine.
  await visitor.slow(MiB / 4);
  await tabTo('Choose files');
  assert.ok(await seen(), 'the focus can’t be seen');
  await visitor.chooseBy(() => keyboard.press('Enter'), file);
  const row = visitor.row('keys.bin');
  await row.midway(0.03);
  await tabTo('Pause keys.bin');
  await keyboard.press('Enter');
  await row.is('paused');
  assert.equal(await focused(), 'Continue keys.bin', 'the focus got lost');
  assert.ok(await seen(), 'the focus can’t be seen');
  await keyboard.press('Space');
  await row.midway(0.03);
  await row.button('Disconnect').waitFor();
  await tabTo('Disconnect keys.bin');
  await keyboard.press('Enter');
  await row.is('waiting');
  assert.equal(await focused(), 'Retry now keys.bin', 'the focus was lost');
  await visitor.slow();
  await keyboard.press('Enter');
  await row.is('done');
  await until(async () => (await focused()) === 'Download keys.bin', async () => `the focus to move on from ${await focused()}`);
  const [download] = await Promise.all([visitor.tab.waitForEvent('download'), keyboard.press('Enter')]);
  assert.equal(await hashOf(await download.path()), await hashOf(file));
  await tabTo('Clear keys.bin');
  await keyboard.press('Enter');
  await row.is('gone');
  assert.equal(await focused(), 'Choose files', 'the focus got lost');
  await tabTo('Upload from the command line');
  await keyboard.press('Enter');
  await visitor.tab.locator('#curl-once').waitFor({ state: 'visible' });
  await visitor.leave();
});

test('the focus goes to the neighbour when a row leaves', async () => {
  const visitor = await Visitor.open(browser, landfall.demo);
  const names = ['r1.bin', 'r2.bin', 'r3.bin'];
  await visitor.choose(await Promise.all(names.map((name) => landfall.file(name, 100))));
  for (const name of names) await visitor.row(name).is('done');
  const neighbour = () => visitor.tab.evaluate(() => document.activeElement.closest('.upload')?.querySelector('h3').textContent);
  await until(async () => (await visitor.tab.locator('#finished .upload').count()) === 3, 'the rows at their place');
  const order = await visitor.tab.locator('.upload h3').allTextContents();
  await visitor.row(order[1]).press('Clear');
  assert.equal(await neighbour(), order[2]);
  await visitor.row(order[2]).press('Clear');
  assert.equal(await neighbour(), order[0]);
  await visitor.leave();
});

test('a screen reader hears the events, not the figures', async () => {
  const visitor = await Visitor.open(browser, landfall.demo);
  await visitor.tab.evaluate(() => {
    globalThis.heard = [];
    const region = document.getElementById('announcer');
    new MutationObserver(() => globalThis.heard.push(region.textContent)).observe(region, { childList: true });
  });
  const heard = () => visitor.tab.evaluate(() => globalThis.heard);
  assert.equal(await visitor.tab.locator('[role=status], [aria-live]').count(), 1);
  await visitor.slow(MiB / 2);
  await visitor.choose(await landfall.file('heard.bin', 12 * MiB));
  const row = visitor.row('heard.bin');
  await row.midway(0.3);
  assert.equal(await visitor.tab.getByRole('progressbar', { name: 'heard.bin' }).count(), 1);
  assert.deepEqual(await heard(), []);
  await row.press('Disconnect');
  await until(async () => (await heard()).length === 1, 'the cut to be told');
  await visitor.slow();
  await row.is('done');
  await until(async () => (await heard()).length === 2, 'the end to be told');
  assert.deepEqual(await heard(), [
    'heard.bin: Disconnected. It will resume automatically.',
    'heard.bin uploaded.',
  ]);
  const many = await Promise.all(Array.from({ length: 8 }, (_, at) => landfall.file(`many${at}.bin`, 10)));
  await visitor.choose(many);
  await visitor.tab.getByRole('button', { name: '9 uploaded' }).waitFor();
  await until(async () => /^(many\d\.bin uploaded\. ){3}And \d more\.$/.test((await heard()).at(-1)), 'the sum to be told');
  await visitor.leave();
});

test('animations are off with prefers-reduced-motion', async () => {
  const visitor = await Visitor.open(browser, landfall.demo, { reducedMotion: 'reduce' });
  await visitor.choose(await landfall.file('calm.bin', 100));
  await visitor.row('calm.bin').is('done');
  const moving = await visitor.tab.evaluate(() => [...document.querySelectorAll('*')].filter((element) => {
    const { transitionProperty, animationName } = getComputedStyle(element);
    return transitionProperty !== 'none' || animationName !== 'none';
  }).length);
  assert.equal(moving, 0);
  await visitor.leave();
});

test('names are shown as text, whatever they hold', async () => {
  const visitor = await Visitor.open(browser, landfall.demo);
  const name = '<img src=x onerror=alert(1)>{{endpoint}}&amp;.txt';
  await visitor.choose(await landfall.file(name, 50));
  const row = await visitor.row(name).is('done');
  assert.equal(await row.element.locator('h3').textContent(), name);
  assert.equal(await visitor.tab.locator('.upload img').count(), 0);
  await visitor.leave();
});

test('the policy lets in the page’s own files and nothing else', async () => {
  const answer = await fetch(landfall.page);
  const policy = answer.headers.get('Content-Security-Policy') ?? '';
  assert.match(policy, /default-src 'none'/);
  assert.match(policy, /script-src 'self'(;|$)/);
  assert.match(policy, /style-src 'self'(;|$)/);
  assert.match(answer.headers.get('Content-Type'), /^text\/html/);
  const visitor = await Visitor.open(browser, landfall.demo);
  await visitor.tab.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'globalThis.broken = true';
    document.body.append(script);
  });
  assert.equal(await visitor.tab.evaluate(() => globalThis.broken), undefined);
  await until(() => visitor.complaints.some((text) => /Content Security Policy/.test(text)), 'the browser to object');
  visitor.complaints.length = 0;
  await visitor.leave();
});

test('the page loads nothing from other origins', async () => {
  const context = await browser.newContext();
  const tab = await context.newPage();
  const outside = [];
  tab.on('request', (request) => {
    if (new URL(request.url()).origin !== landfall.origin) outside.push(request.url());
  });
  await tab.goto(landfall.page, { waitUntil: 'networkidle' });
  assert.deepEqual(outside, []);
  await context.close();
});
