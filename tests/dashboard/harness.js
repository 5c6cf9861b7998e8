// Shared by the dashboard tests: a server with a dashboard, uploads with a chosen rate, an
// application that can fail.

import assert from 'node:assert/strict';
import http from 'node:http';
import { after } from 'node:test';

import { Landfall, Visitor, launch, until } from '../page/harness.js';

export { Visitor, gapOf, launch, test, testInBrowsers, until, violations } from '../page/harness.js';

export const KEY = 'a-key-that-is-long-enough';
export const MB = 1e6;

const TUS = { 'Tus-Resumable': '1.0.0' };

/** A server with a dashboard. */
export function start(...flags) {
  return Landfall.start('-admin-key', KEY, '-node-name', 'harbour', ...flags);
}

/** A browser, and a server whose hooks for `events` go to an application that fails, until the tests of a file end. */
export async function startWithFailingHooks(events, ...flags) {
  const application = await Application.start();
  const landfall = await start(
    '-hooks-http', application.url, '-hooks-enabled-events', events, '-hooks-http-retry', '0', '-events-retry-for', '1s', ...flags,
  );
  const browser = await launch();
  after(async () => {
    await browser.close();
    await landfall.stop();
    await application.stop();
  });
  return { browser, landfall, application };
}

/** The API with the admin key. */
export async function api(landfall, path, { method = 'GET', body, headers = {} } = {}) {
  const answer = await fetch(`${landfall.origin}/admin/api/${path}`, {
    method,
    headers: {
      Authorization: `Bearer ${KEY}`,
      ...body === undefined ? {} : { 'Content-Type': 'application/json' },
      ...headers,
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  return { status: answer.status, headers: answer.headers, body: text === '' ? null : JSON.parse(text) };
}

/** An upload whose bytes are sent on demand. */
export class Upload {
  static async create(landfall, name, size) {
    const self = new Upload();
    self.size = size;
    self.sent = 0;
    const filename = Buffer.from(name).toString('base64');
    const answer = await fetch(landfall.endpoint, {
      method: 'POST',
      headers: { ...TUS, 'Upload-Length': String(size), 'Upload-Metadata': `filename ${filename}` },
    });
    assert.equal(answer.status, 201);
    self.url = answer.headers.get('location');
    return self;
  }

  /** Creates and completes an upload. */
  static async whole(landfall, name, size) {
    const self = await Upload.create(landfall, name, size);
    self.send(size);
    await self.end();
    return self;
  }

  /** Sends further bytes in the same request. */
  send(count) {
    if (this.request === undefined) {
      this.request = http.request(this.url, {
        method: 'PATCH',
        headers: {
          ...TUS,
          'Content-Type': 'application/offset+octet-stream',
          'Upload-Offset': String(this.sent),
          'Content-Length': String(this.size - this.sent),
        },
      });
      this.answer = new Promise((resolve) => {
        this.request.on('response', (answer) => {
          answer.resume();
          resolve(answer.statusCode);
        });
        this.request.on('error', (error) => resolve(error.code));
      });
    }
    this.sent += count;
    this.request.write(Buffer.alloc(count, 7));
  }

  /** Sends this much ten times a second until it is stopped or all is sent. */
  flow(perSecond) {
    const timer = setInterval(() => {
      const left = this.size - this.sent;
      if (left === 0 || this.request?.destroyed) clearInterval(timer);
      else this.send(Math.min(left, Math.round(perSecond / 10)));
    }, 100);
    return () => clearInterval(timer);
  }

  /** The end of the request. */
  async end() {
    this.request.end();
    assert.equal(await this.answer, 204);
  }

  async status() {
    return (await fetch(this.url, { method: 'HEAD', headers: TUS })).status;
  }
}

/** An application that receives hooks, and responds with 500 while `isFailing`. */
export class Application {
  static async start() {
    const self = new Application();
    self.isFailing = true;
    self.events = [];
    self.server = http.createServer((request, response) => {
      const parts = [];
      request.on('data', (part) => parts.push(part));
      request.on('end', () => {
        const call = JSON.parse(Buffer.concat(parts).toString() || '{}');
        if (!self.isFailing) self.events.push(call);
        response.writeHead(self.isFailing ? 500 : 200, { 'Content-Type': 'application/json' });
        response.end(self.isFailing ? 'the database is locked' : JSON.stringify(self.answer?.(call) ?? {}));
      });
    });
    await new Promise((resolve) => { self.server.listen(0, '127.0.0.1', resolve); });
    self.url = `http://127.0.0.1:${self.server.address().port}/hooks`;
    return self;
  }

  stop() {
    this.server.closeAllConnections();
    return new Promise((resolve) => { this.server.close(resolve); });
  }
}

/** A browser with the dashboard. */
export class Operator {
  /** Opens the login form and logs in. */
  static async open(browser, landfall, options) {
    const self = await Operator.arrive(browser, landfall, options);
    await self.logIn(KEY);
    await self.tab.getByRole('heading', { name: 'Active uploads' }).waitFor();
    return self;
  }

  /** Opens the login form. */
  static async arrive(browser, landfall, options = {}) {
    const self = new Operator();
    self.visitor = await Visitor.open(browser, `${landfall.origin}/admin`, options);
    self.tab = self.visitor.tab;
    self.urls = [];
    self.tab.on('request', (request) => self.urls.push(request.url()));
    return self;
  }

  async logIn(key) {
    await this.tab.getByLabel('Admin key').fill(key);
    await this.tab.getByRole('button', { name: 'Log in' }).click();
  }

  /** Opens the page of an upload from the table. */
  async openDetail(name) {
    await this.row(name).getByRole('link', { name, exact: true }).click();
    await this.tab.getByRole('heading', { name, exact: true, level: 2 }).waitFor();
  }

  /** The list item of an active upload. */
  live(name) {
    return this.tab.locator('#live > li').filter({
      has: this.tab.getByRole('heading', { name, exact: true }),
    });
  }

  /** The table row of an upload. */
  row(name) {
    return this.tab.locator('#rows tbody tr').filter({ has: this.tab.getByRole('rowheader', { name }) });
  }

  /** Waits until the text of an element matches. */
  async says(locator, wanted) {
    let last = '';
    await until(async () => {
      last = (await locator.allTextContents()).join(' ');
      return wanted.test(last);
    }, () => `${wanted}, but it says "${last}"`);
    return last;
  }

  leave() {
    return this.visitor.leave();
  }
}
