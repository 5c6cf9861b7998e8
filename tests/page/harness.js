// Starts the real server and a real browser for the tests of the upload page.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, open, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test as declare } from 'node:test';
import { createInterface } from 'node:readline';

import { chromium, firefox } from 'playwright-core';

import { FaultProxy } from '../clients/lib/proxy.js';
import { freePorts } from '../nodes/lib/services.js';

/** firefox.test.js sets it before it loads tests. */
const FIREFOX = process.env.BROWSER === 'firefox';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

/** How long the page may take for something, in milliseconds. */
const PATIENCE = 60_000;

/** How long the server may take to start, in milliseconds. */
const START = 120_000;

/** How long one test may take, in milliseconds. */
const LIMIT = 240_000;

const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** The program, and our environment without what looks like its settings. */
export function program() {
  const bin = process.env.LANDFALL_BIN;
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('LANDFALL_')),
  );
  return { bin, env };
}

const TUS = { 'Tus-Resumable': '1.0.0' };

/** Waits until `check` gives something true; fails loudly after a while, saying what it waited for. */
export async function until(check, what, patience = PATIENCE) {
  const end = Date.now() + patience;
  for (;;) {
    const result = await check();
    if (result) return result;
    assert.ok(Date.now() < end, `waited in vain: ${typeof what === 'string' ? what : await what()}`);
    await new Promise((resolve) => { setTimeout(resolve, 25); });
  }
}

/** Declares a test that can't hang, in Chromium and in Firefox. */
export function testInBrowsers(name, run) {
  declare(name, { timeout: LIMIT }, run);
}

/** Declares a test of what is the same in each browser, or of what only Chromium's driver can do. */
export function test(name, run) {
  if (!FIREFOX) testInBrowsers(name, run);
}

/** Firefox reports a cut of the event stream, which the tests bring about, as an error of the page or of the console. */
const CUT_EVENTS = /Firefox can’t establish a connection to the server at \S+\/api\/events[.?]/;

/** Proxies by their origins, which slow what Firefox sends: its driver cannot. */
const proxies = new Map();

/** Runs `landfall` in a directory of its own until `stop`. */
export class Landfall {
  /** @param {string[]} [flags] */
  static async start(...flags) {
    const self = new Landfall();
    self.dir = await mkdtemp(path.join(tmpdir(), 'landfall-page-'));
    self.data = path.join(self.dir, 'data');
    self.flags = flags;
    // One that can be had again after a restart: nobody else is given it meanwhile.
    const [port] = await freePorts(1);
    await self.run(port);
    if (FIREFOX) {
      const proxy = await FaultProxy.start({ after: (close) => { self.closeProxy = close; } }, { port, endpoint: self.endpoint });
      self.#serveAt(proxy.endpoint);
      proxies.set(self.origin, proxy);
    }
    return self;
  }

  #serveAt(endpoint) {
    this.endpoint = endpoint;
    this.origin = new URL(endpoint).origin;
    this.page = `${this.origin}/`;
    /** With the button that closes the connection. */
    this.demo = `${this.page}?demo`;
  }

  /** Starts the program, the first time or again. */
  async run(port) {
    const { bin, env } = program();
    assert.ok(bin, 'set LANDFALL_BIN to the landfall program');
    const flags = ['-host', '127.0.0.1', '-port', String(port), '-upload-dir', this.data, ...this.flags];
    this.process = spawn(path.resolve(bin), flags, { cwd: this.dir, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let told = '';
    this.process.stderr.on('data', (text) => { told = (told + text).slice(-4000); });
    /** The log. */
    this.log = [];
    this.exited = new Promise((resolve) => {
      this.process.once('exit', resolve);
      this.process.once('error', resolve);
    });
    const line = new Promise((resolve) => {
      createInterface({ input: this.process.stdout }).on('line', (text) => {
        this.log = [...this.log.slice(-999), text];
        const found = /upload files to: (http:\S+)/.exec(text);
        if (found) resolve(found[1]);
      });
    });
    const late = AbortSignal.timeout(START);
    const silent = new Promise((resolve) => { late.addEventListener('abort', () => resolve(null)); });
    const endpoint = await Promise.race([line, silent, this.exited.then(() => null)]);
    assert.ok(endpoint, `landfall did not start: ${told}`);
    this.#serveAt(endpoint);
  }

  async halt(signal = 'SIGTERM') {
    this.process.kill(signal);
    const late = setTimeout(() => this.process.kill('SIGKILL'), 20_000);
    await this.exited;
    clearTimeout(late);
  }

  async stop() {
    await this.halt('SIGKILL');
    await this.closeProxy?.();
    await rm(this.dir, { recursive: true, force: true });
  }

  /** SHA-256 of what is stored of an upload. */
  stored(url) {
    return hashOf(path.join(this.data, decodeURIComponent(new URL(url).pathname.split('/').at(-1))));
  }

  /** Uploads in the directory. */
  async count() {
    return (await readdir(this.data)).filter((name) => !name.includes('.')).length;
  }

  async head(url) {
    const answer = await fetch(url, { method: 'HEAD', headers: TUS });
    return { status: answer.status, headers: answer.headers };
  }

  /** A file to be uploaded: random, or mere zeros when it is large. */
  async file(name, size) {
    const folder = path.join(this.dir, 'files');
    await mkdir(folder, { recursive: true });
    const target = path.join(folder, name);
    if (size <= 2 ** 25) {
      await writeFile(target, randomBytes(size));
    } else {
      const file = await open(target, 'w');
      // Distinct at both ends, so that a shifted or shortened copy has another hash.
      await file.write(randomBytes(4096), 0, 4096, 0);
      await file.write(randomBytes(4096), 0, 4096, size - 4096);
      await file.close();
      assert.equal((await stat(target)).size, size);
    }
    return target;
  }
}

export function hashOf(file) {
  return new Promise((resolve, reject) => {
    const hash = createHash('sha256');
    createReadStream(file)
      .on('data', (chunk) => hash.update(chunk))
      .on('end', () => resolve(hash.digest('hex')))
      .on('error', reject);
  });
}

/** A browser, closed by `close`. Firefox has one color scheme, Chromium one for each context. */
export function launch(colorScheme = 'light') {
  if (!FIREFOX) return chromium.launch({ executablePath: CHROMIUM, headless: true, args: FLAGS });
  return firefox.launch({
    // Speaks WebDriver BiDi, which Firefox has as its makers build it.
    channel: 'moz-firefox',
    executablePath: process.env.FIREFOX ?? '/usr/bin/firefox-esr',
    headless: true,
    firefoxUserPrefs: {
      'layout.css.prefers-color-scheme.content-override': colorScheme === 'dark' ? 0 : 1,
      // Its list of downloads takes the focus.
      'browser.download.alwaysOpenPanel': false,
      // A mouse.
      'ui.primaryPointerCapabilities': 6,
      // Bytes in a buffer of the system count as sent.
      'network.tcp.sendbuffer': 65_536,
    },
  });
}

/** A person's view of the page, with all requests written down. */
export class Visitor {
  /**
   * @param {import('playwright-core').Browser} browser
   * @param {string} url
   * @param {object} [options] of the browser's context; `picker: true` keeps the picker that gives handles
   */
  static async open(browser, url, { picker = false, ...options } = {}) {
    // The driver cannot emulate phones in Firefox.
    if (FIREFOX) delete options.isMobile;
    const context = await browser.newContext({ acceptDownloads: true, ...options });
    // Its dialog can't be driven from outside; the plain input's can.
    if (!picker) await context.addInitScript(() => { delete window.showOpenFilePicker; });
    // Firefox opens no second dialog, since the first one is never closed.
    if (FIREFOX) await context.addInitScript(() => { HTMLInputElement.prototype.click = function () { window.opened = this; }; });
    context.setDefaultTimeout(PATIENCE);
    const self = await Visitor.join(context, url);
    if (self.proxy) await self.slow();
    return self;
  }

  /** Another tab of the same person. */
  static async join(context, url) {
    const self = new Visitor();
    self.context = context;
    self.proxy = proxies.get(new URL(url).origin);
    self.tab = await context.newPage();
    self.complaints = [];
    self.requests = [];
    const complain = (text) => {
      if (!CUT_EVENTS.test(text)) self.complaints.push(text);
    };
    self.tab.on('pageerror', (error) => complain(error.stack));
    self.tab.on('console', (message) => {
      // The browser reports each answer ≥ 400 and each cut, which the tests bring about.
      if (message.type() === 'error' && !/Failed to load resource|net::ERR_/.test(message.text())) complain(message.text());
    });
    // From the start, so that no dialog opens before the browser is told to leave it to us.
    self.tab.on('filechooser', () => {});
    self.tab.on('request', (request) => {
      if (!['POST', 'PATCH', 'HEAD', 'DELETE'].includes(request.method())) return;
      self.requests.push({ method: request.method(), url: request.url(), headers: request.headers() });
    });
    await self.tab.goto(url);
    // The page loads its texts before it takes files.
    await self.tab.locator('main[hidden]').waitFor({ state: 'detached' });
    return self;
  }

  /** Ends the visit; anything the page complained of fails the test. */
  async leave() {
    await this.context.close();
    assert.deepEqual(this.complaints, []);
  }

  /** Slows everything the page sends, in bytes per second; without a number, as fast as it goes. */
  async slow(rate = -1) {
    if (this.proxy) this.proxy.bytesPerSecond = rate === -1 ? Infinity : rate;
    else await this.#emulate({ offline: false, uploadThroughput: rate });
  }

  /** Takes the page off the network, until `slow`. */
  offline() {
    return this.#emulate({ offline: true, uploadThroughput: -1 });
  }

  async #emulate(conditions) {
    this.network ??= await this.context.newCDPSession(this.tab);
    await this.network.send('Network.enable');
    await this.network.send('Network.emulateNetworkConditions', {
      latency: 0, downloadThroughput: -1, ...conditions,
    });
  }

  /** Presses a button that opens the file dialog, and chooses there. */
  async choose(files, button = this.tab.getByRole('button', { name: 'Choose files' })) {
    await this.chooseBy(() => button.click(), files);
  }

  /** Does what opens the file dialog, and chooses there. */
  async chooseBy(open, files) {
    if (FIREFOX) {
      await open();
      const input = await this.tab.waitForFunction(() => window.opened);
      await this.tab.evaluate(() => { delete window.opened; });
      await input.setInputFiles(files);
    } else {
      const [dialog] = await Promise.all([this.tab.waitForEvent('filechooser'), open()]);
      await dialog.setFiles(files);
    }
  }

  /** Drops files or folders on the page, as the desktop would. */
  async drop(...files) {
    const session = await this.context.newCDPSession(this.tab);
    const data = { items: [], files, dragOperationsMask: 1 };
    for (const type of ['dragEnter', 'dragOver', 'drop']) {
      await session.send('Input.dispatchDragEvent', { type, x: 200, y: 200, data });
    }
    await session.detach();
  }

  row(name) {
    return new RowOf(this, name);
  }

  /** Requests of a method so far. */
  sent(method) {
    return this.requests.filter((request) => request.method === method);
  }
}

/** The gap between the ellipsis of a cut text and what follows: the browser cuts at a character, and the rest of its width must not stay empty. */
export function gapOf(locator) {
  return locator.evaluate((start) => {
    const canvas = document.createElement('canvas').getContext('2d');
    canvas.font = getComputedStyle(start).font;
    const widths = Array.from(start.textContent, (_, at) => canvas.measureText(`${start.textContent.slice(0, at)}…`).width);
    const [{ left: from }, { left: to }] = [start, start.nextElementSibling].map((part) => part.getBoundingClientRect());
    const box = to - from;
    return box - widths.findLast((each) => each <= box);
  });
}

/** Violations that axe finds, of every severity. */
export async function violations(visitor) {
  // Through the debugger, since the policy of the page lets no foreign script in.
  await visitor.tab.evaluate(AXE);
  const { violations: found } = await visitor.tab.evaluate(() => globalThis.axe.run(document, {
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
  }));
  return found.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map((node) => node.html).join(' ')}`);
}

/** One line of the list. */
class RowOf {
  constructor(visitor, name) {
    this.visitor = visitor;
    this.name = name;
    this.element = visitor.tab.locator('.upload').filter({
      has: visitor.tab.getByRole('heading', { name, exact: true, level: 3 }),
    });
  }

  button(label) {
    return this.element.getByRole('button', { name: `${label} ${this.name}`, exact: true });
  }

  async press(label) {
    await this.button(label).click();
  }

  /** Looked up in one go, since the row may leave at any time. */
  state() {
    return this.element.evaluateAll(([row]) => row?.dataset.state ?? 'gone');
  }

  status() {
    return this.element.locator('.status').evaluateAll(([status]) => status?.textContent ?? '');
  }

  async is(...states) {
    let last = '';
    await until(async () => {
      last = await this.state();
      return states.includes(last);
    }, async () => {
      const methods = this.visitor.requests.map(({ method }) => method).join(' ');
      return `${this.name} to be ${states.join(' or ')}, but it is ${last} (${await this.status()}) after ${methods}`;
    });
    return this;
  }

  /** Waits until so many bytes were handed to the network, and some are still missing. */
  async midway(share = 0.2) {
    await until(async () => {
      if ((await this.state()) !== 'uploading') return false;
      const at = Number(await this.element.getByRole('progressbar').getAttribute('value'));
      assert.ok(at < 0.95, `${this.name} was too quick`);
      return at > share;
    }, `${this.name} to be running`);
  }

  url() {
    return this.element.getByRole('link', { name: `Download ${this.name}` }).getAttribute('href');
  }
}
