// The API conforms to docs/admin-api.yaml.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before } from 'node:test';

import Ajv from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import { parse } from 'yaml';

import { RESPONSES } from './fixtures.js';
import { Application, KEY, MB, Upload, api, start, test, until } from './harness.js';

const ROOT = new URL('../../', import.meta.url);
const described = parse(await readFile(new URL('docs/admin-api.yaml', ROOT), 'utf8'));

const ajv = new Ajv({ strict: false, allErrors: true });
formats(ajv);
ajv.addSchema({ $id: 'api', components: described.components });

let landfall;
let application;
before(async () => {
  application = await Application.start();
  landfall = await start(
    '-hooks-http', application.url, '-hooks-enabled-events', 'post-finish', '-hooks-http-retry', '0',
    '-events-retry-for', '1s',
  );
});
after(async () => {
  await landfall?.stop();
  await application?.stop();
});

/** Validates a value against a schema. */
function check(value, schema) {
  const isValid = ajv.validate({ $ref: `api#/components/schemas/${schema}` }, value);
  assert.ok(isValid, `${schema}: ${ajv.errorsText()}\n${JSON.stringify(value, null, 1)}`);
  return value;
}

/** Sends a request and validates the response against the schema of its operation and status. */
async function request(method, path, wanted, options = {}) {
  const answer = await api(landfall, path, { method, ...options });
  assert.equal(answer.status, wanted, `${method} ${path}: ${JSON.stringify(answer.body)}`);
  const [bare] = path.split('?');
  const template = `/${bare.replace(/^uploads\/[^/]+/, 'uploads/{id}')}`;
  const operation = described.paths[template][method.toLowerCase()];
  let response = operation.responses[wanted];
  assert.ok(response, `${method} ${template} does not document ${wanted}`);
  if (response.$ref) response = described.components.responses[response.$ref.split('/').at(-1)];
  const [[kind, { schema }]] = Object.entries(response.content);
  assert.equal(answer.headers.get('content-type').split(';')[0], kind);
  return check(answer.body, schema.$ref.split('/').at(-1));
}

test('the description contains exactly the existing routes', async () => {
  const source = await readFile(new URL('crates/server/src/admin/mod.rs', ROOT), 'utf8');
  const [, inside] = /let api = Router::new\(\)([\s\S]*?)\.fallback/.exec(source);
  const routes = [...inside.matchAll(/\.route\(\s*"([^"]+)",\s*([^\n]*)/g)].flatMap(([, path, handlers]) => (
    [...handlers.matchAll(/\b(get|post|put|patch|delete)\(/g)].map(([, method]) => `${method} ${path}`)));
  const said = Object.entries(described.paths).flatMap(([path, item]) => (
    Object.keys(item).filter((key) => key !== 'parameters').map((method) => `${method} ${path}`)));
  assert.deepEqual(routes.toSorted(), said.toSorted());
  assert.ok(said.length >= 10, said.join());
});

test('the data of the screenshots match the schemas', () => {
  for (const [schema, json] of Object.entries(RESPONSES)) check(json, schema);
});

test('responses match the schemas exactly', async () => {
  const running = await Upload.create(landfall, 'running.bin', 20 * MB);
  const stop = running.flow(MB / 4);
  const done = await Upload.whole(landfall, 'done.bin', MB);
  const { uploads } = await until(async () => {
    const list = await request('GET', 'uploads?state=progress,completed', 200);
    return list.uploads.length === 2 && list;
  }, 'both uploads');
  stop();
  const by = Object.fromEntries(uploads.map((upload) => [upload.filename, upload]));
  assert.equal(by['done.bin'].offset, MB);
  assert.equal(by['done.bin'].upload_id, new URL(done.url).pathname.split('/').at(-1));
  assert.equal(by['running.bin'].node, 'harbour');
  assert.equal(by['running.bin'].transfer, 'tus');
  assert.equal(by['running.bin'].client, '127.0.0.1');
  assert.deepEqual([by['running.bin'].receiving, by['done.bin'].receiving], [true, false]);
  const detail = await request('GET', `uploads/${by['done.bin'].id}`, 200);
  assert.equal(detail.upload.download_url, done.url);
  assert.equal(detail.storage.Path, `${landfall.data}/${detail.upload.upload_id}`);
  assert.deepEqual(detail.upload_metadata, { filename: 'done.bin' });
  assert.ok(detail.upload.received_at <= detail.upload.ended_at);
  const [began] = [detail.upload.created_at, await new Promise((resolve) => { setTimeout(resolve, 20); })];
  for (const [range, count] of [[`from=${began}`, 1], [`to=${began}`, 1], [`from=${began}&to=${began}`, 0], ['from=2000-01-01T00:00:00Z&search=do', 1]]) {
    assert.equal((await request('GET', `uploads?${range}`, 200)).uploads.length, count, range);
  }
  const first = await request('GET', 'uploads?limit=1', 200);
  assert.equal(first.next, first.uploads[0].id);
  const second = await request('GET', `uploads?limit=1&after=${first.next}`, 200);
  assert.ok(second.uploads[0].id < first.next);
  assert.equal(second.next, null);

  const overview = await request('GET', 'overview', 200);
  assert.equal(overview.node, 'harbour');
  assert.equal(overview.jobs.completed, 1);
  assert.equal(overview.completed_bytes, MB);
  assert.equal(overview.active_uploads, 1);
  assert.equal(overview.receiving, 1);
  assert.ok(overview.storage.free > 0 && overview.storage.free <= overview.storage.capacity);
  assert.deepEqual(overview.health.map(({ component }) => component), ['store', 'disk', 'leases', 'database', 'hooks', 'events']);
  const { minutes } = await until(async () => {
    const found = await request('GET', 'throughput', 200);
    return found.minutes.reduce((sum, { bytes }) => sum + bytes, 0) > MB && found;
  }, 'the bytes of both to be counted');
  assert.equal(minutes.length, 60);
  assert.equal((await request('GET', 'throughput?minutes=3', 200)).minutes.length, 3);
  for (const [range, interval, count] of [[240, 1, 240], [1440, 10, 144], [10080, 60, 168], [99999, 60, 168]]) {
    const found = await request('GET', `throughput?minutes=${range}`, 200);
    assert.deepEqual([found.interval_minutes, found.minutes.length, found.nodes], [interval, count, ['harbour']]);
    assert.ok(found.minutes.at(-1).bytes + found.minutes.at(-2).bytes > MB);
  }
  const elsewhere = await request('GET', 'throughput?node=elsewhere', 200);
  assert.equal(elsewhere.minutes.reduce((sum, { bytes }) => sum + bytes, 0), 0);
  assert.ok((await request('GET', 'throughput?node=harbour', 200)).minutes.some(({ bytes }) => bytes > 0));
  check(await request('GET', 'keys', 200), 'Keys');
  check(await request('GET', 'links', 200), 'Links');

  const cancelled = await request('DELETE', `uploads/${by['running.bin'].id}`, 200);
  assert.equal(cancelled.state, 'cancelled');
  assert.equal((await request('DELETE', `uploads/${by['running.bin'].id}`, 200)).ended_at, cancelled.ended_at);
  await request('DELETE', `uploads/${by['done.bin'].id}`, 409);
  const other = await Upload.create(landfall, 'other.bin', 10);
  const { uploads: [active] } = await request('GET', 'uploads?search=other', 200);
  await request('POST', `uploads/${active.id}/delete`, 409);
  await Upload.whole(landfall, 'deleted.bin', 10);
  const { uploads: [ended] } = await request('GET', 'uploads?search=deleted', 200);
  assert.deepEqual(await request('POST', `uploads/${ended.id}/delete`, 200), { deleted: ended.id });
  await request('POST', `uploads/${ended.id}/delete`, 404);
  assert.equal((await request('GET', 'overview', 200)).jobs.completed, 1, 'the total falls');
  assert.equal(await other.status(), 200);
  running.request.destroy();
});

test('dead letters match their schema', async () => {
  const { events } = await until(async () => {
    const list = await request('GET', 'dead-letters', 200);
    return list.events.length === 2 && list;
  }, 'an event to be given up on');
  const event = events.find(({ filename }) => filename === 'done.bin');
  assert.deepEqual([event.transport, event.event, event.filename], ['http', 'post-finish', 'done.bin']);
  assert.match(event.error, /500/);
  const { uploads: [{ id }] } = await request('GET', 'uploads?search=done', 200);
  const detail = await request('GET', `uploads/${id}`, 200);
  assert.deepEqual(detail.events, [event]);
  assert.equal(detail.upload.client, '127.0.0.1');
  const { groups: [{ count, since, ...group }] } = await request('GET', 'failed-events', 200);
  assert.deepEqual([count, group.state, since <= event.dead_at], [2, 'dead', true]);
  assert.deepEqual((await request('GET', `dead-letters?${new URLSearchParams(group)}`, 200)).events, events);
  assert.deepEqual((await request('GET', `dead-letters?${new URLSearchParams({ ...group, error: 'another' })}`, 200)).events, []);
  await request('GET', 'dead-letters?transport=http', 422);
  await request('POST', 'dead-letters/retry', 422, { body: { group, all: true } });
  await request('POST', 'dead-letters/delete', 422, { body: { group: { ...group, state: 'pending' } } });
  assert.deepEqual(await request('POST', 'dead-letters/retry', 200, { body: { group: { ...group, error: 'another' } } }), { changed: 0 });
  await request('POST', 'dead-letters/retry', 422, { body: {} });
  await request('POST', 'dead-letters/retry', 422, { body: { ids: [event.id], all: true } });
  await request('POST', 'dead-letters/retry', 422, { body: { all: true, more: 1 } });
  await request('POST', 'dead-letters/retry', 415, { headers: { 'Content-Type': 'text/plain' } });
  assert.deepEqual(await request('POST', 'dead-letters/retry', 200, { body: { ids: ['unknown'] } }), { changed: 0 });
  assert.deepEqual(await request('POST', 'dead-letters/retry', 200, { body: { ids: [event.id] } }), { changed: 1 });
  await until(async () => (await request('GET', 'dead-letters', 200)).events.length === 2, 'the next failure');
  assert.deepEqual(await request('POST', 'dead-letters/delete', 200, { body: { all: true } }), { changed: 2 });
  application.isFailing = false;
  await Upload.whole(landfall, 'heard.bin', 10);
  const { uploads: [heard] } = await request('GET', 'uploads?search=heard', 200);
  const { delivered } = await until(async () => {
    const found = await request('GET', `uploads/${heard.id}`, 200);
    return found.delivered.length > 0 && found;
  }, 'the delivered event');
  assert.deepEqual(delivered.map(({ event: name, transport, attempts, error }) => [name, transport, attempts, error]), [['post-finish', 'http', 1, null]]);
  assert.ok(delivered[0].created_at <= delivered[0].delivered_at);
  assert.deepEqual((await request('GET', 'dead-letters', 200)).events, []);
});

test('what makes no sense is refused as described', async () => {
  for (const path of ['uploads?state=sleeping', 'uploads?limit=many', 'uploads?colour=red', 'throughput?minutes=x', 'uploads?from=yesterday', 'dead-letters?limit=-1']) {
    await request('GET', path, 422);
  }
  await request('GET', 'uploads/999999', 404);
  await request('GET', 'uploads/x', 404);
  await request('DELETE', 'uploads/999999', 404);
  await request('GET', 'overview', 401, { headers: { Authorization: 'Bearer wrong' } });
  check((await api(landfall, 'uploads', { method: 'PUT' })).body, 'Problem');
});

/** Reads events of the stream until `count` came. */
async function read(query, count, headers = {}) {
  const abort = new AbortController();
  const answer = await fetch(`${landfall.origin}/admin/api/events${query}`, {
    headers: { Authorization: `Bearer ${KEY}`, ...headers }, signal: abort.signal,
  });
  assert.equal(answer.headers.get('content-type'), 'text/event-stream');
  const events = [];
  let text = '';
  for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    const blocks = text.split('\n\n');
    text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split('\n').map((line) => /^(\w*): ?(.*)$/.exec(line).slice(1)));
      if (fields.data) events.push({ ...fields, data: check(JSON.parse(fields.data), 'Event') });
    }
    if (events.length >= count) break;
  }
  abort.abort();
  return events;
}

test('events come as described, and go on where they stopped', async () => {
  const coming = read('', 2);
  await new Promise((resolve) => { setTimeout(resolve, 300); });
  await Upload.whole(landfall, 'told.bin', 100);
  const events = await coming;
  assert.equal(events[0].event, 'UploadStarted');
  assert.equal(events[0].data.upload.filename, 'told.bin');
  for (const { event, data } of events) assert.equal(event, data.type);
  const [next] = await read(`?last_event_id=${events[0].id}`, 1);
  assert.deepEqual(next.data.upload.id, events[1].data.upload.id);
  assert.equal(next.id, events[1].id);
  assert.equal((await read('', 1, { 'Last-Event-ID': events[0].id }))[0].id, events[1].id);
});
