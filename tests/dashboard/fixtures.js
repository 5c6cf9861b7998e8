// Fixed responses of the API, for screenshots.

import { NOW } from './screenshots.js';

const ago = (seconds) => new Date(NOW - seconds * 1000).toISOString();

const upload = (id, state, filename, more = {}) => ({
  id, request_id: `request-${id}`, subject: null, state, receiving: false, reason: null, filename, filetype: 'application/octet-stream',
  size: 80e6, offset: state === 'completed' ? 80e6 : 0, rate: 0, seconds_left: null, node: 'harbour',
  upload_id: `4f3a9c0d1e2b${String(id).padStart(20, '0')}`, transfer: 'tus', metadata: {}, client: '192.0.2.7', created_at: ago(id * 900), expires_at: ago(id * 900 - 3600),
  started_at: ago(id * 900), received_at: ago(id * 600), updated_at: ago(id * 600), ended_at: state === 'progress' ? null : ago(id * 600), download_url: null, ...more,
});

const active = [
  upload(20, 'progress', 'backup.tar.zst', { receiving: true, offset: 31e6, rate: 2.4e6, seconds_left: 21, subject: 'ann' }),
  upload(19, 'progress', 'holiday.mp4', { offset: 12.5e6 }),
  upload(18, 'progress', 'live-recording.webm', { receiving: true, size: null, offset: 5.2e6, rate: 410e3 }),
];
const STATES = ['completed', 'completed', 'completed', 'cancelled', 'completed', 'failed', 'completed', 'expired'];
const REASONS = { cancelled: 'by the client', failed: 'denied or stopped by a hook' };
const ended = Array.from({ length: 17 }, (_, at) => {
  const state = STATES[at % STATES.length];
  return upload(17 - at, state, `scan-${17 - at}.pdf`, { subject: at % 3 === 0 ? 'bob' : null, reason: REASONS[state] ?? null });
});

export const event = {
  id: 'event-1', transport: 'http', event: 'post-finish', upload_id: ended[0].upload_id, filename: ended[0].filename, state: 'dead', attempts: 12,
  error: 'HTTP status 500: the database is locked', created_at: ago(90_000), due_at: null, dead_at: ago(3600),
};

const check = (component, name, healthy, message) => ({ component, name, healthy, message });

export const RESPONSES = {
  Overview: {
    node: 'harbour', version: '0.1.0', now: NOW.toISOString(), started_at: ago(400_000), uptime_seconds: 400_000,
    jobs: { received: 1, started: 0, progress: 3, completed: 1204, cancelled: 31, failed: 4, expired: 12 },
    completed_bytes: 812.4e9, rate: 2.81e6, receiving: 2, active_uploads: 2,
    storage: { location: '/srv/uploads', capacity: 2e12, free: 0.7e12 },
    health: [
      check('store', '/srv/uploads', true, 'Reachable.'), check('disk', '/srv/uploads', true, '35 % free.'),
      check('leases', 'files', true, 'Held as file locks on this machine.'), check('database', 'SQLite', true, 'Reachable.'),
      check('hooks', 'http', true, 'Reachable.'), check('events', 'http', false, 'Events that could not be delivered (dead letters): 1.'),
    ],
    conditions: [{
      kind: 'dead-letters', component: 'events', subject: 'http', effect: 'degraded', text: 'events that could not be delivered (dead letters)', detail: '1',
      remedy: 'retry or delete them: landfall events list, or the dashboard', since: ago(400), count: 3,
    }],
    outbox: { queued: 3, limit: 100_000, transports: [{ name: 'http', pending: 3, oldest_seconds: 4, dead_letters: 1, delivered: 5120, failed: 14, next_attempt_seconds: null }] },
  },
  Minutes: {
    interval_minutes: 1, nodes: ['harbour', 'lighthouse'],
    minutes: Array.from({ length: 60 }, (_, at) => ({
      minute: new Date(Math.floor(NOW / 60_000) * 60_000 - (59 - at) * 60_000).toISOString(),
      bytes: Math.round(120e6 * (1 + Math.sin(at / 5)) * (at > 8)), started: 2, completed: 2, failed: 0,
    })),
  },
  Uploads: { uploads: [...active, ...ended], next: 1 },
  UploadDetail: {
    upload: { ...ended[0], download_url: 'http://localhost/files/1' }, max_size: null, etag: null,
    storage: { Type: 'filestore', Path: `/srv/uploads/${ended[0].upload_id}` },
    upload_metadata: { filename: ended[0].filename, filetype: 'application/pdf' }, removed_at: null, has_hooks: true, events: [event],
    delivered: [{
      id: 'event-0', transport: 'http', event: 'post-create', attempts: 2, error: 'HTTP status 502', created_at: ago(90_010), delivered_at: ago(90_005),
    }],
  },
  DeadLetters: { events: [event], has_more: false },
  FailedEvents: { groups: [{ transport: event.transport, event: event.event, error: event.error, state: 'dead', count: 1, since: event.dead_at }] },
  Keys: { keys: [{ id: 1, name: 'portal', subject: 'portal', admin: false, created_at: ago(9e6), expires_at: null, used_at: ago(120) }] },
  Links: {
    links: [{
      id: 1, name: 'Photos for Ann', subject: 'Photos for Ann (link 3f9a12bc04de5f60)', max_size: 5e9, files: 12, max_files: 50,
      created_at: ago(9e5), expires_at: ago(-2e5), used_at: ago(300),
    }],
  },
};

/** The responses of a server after a bad night: many dead letters, long names, all states. */
export function many() {
  const names = ['Board / recording / 3.mp4', 'a-very-long-name-without-any-space-from-a-camera-20260314-150926-final-version-2.mov', 'IMG_0001.jpg', 'Überblick der Jahresabschlüsse (unterschrieben).pdf'];
  const uploads = RESPONSES.Uploads.uploads.map((upload, at) => ({
    ...upload, filename: names[at % names.length], reason: upload.state === 'failed' ? 'denied by a hook: 422 This file contains a virus.' : upload.reason,
    download_url: upload.state === 'completed' ? 'http://localhost/files/1' : null,
  }));
  const group = (count, name, error, state = 'dead') => ({ transport: 'http', event: name, error, state, count, since: event.dead_at });
  return {
    ...RESPONSES,
    Uploads: { uploads, next: 1 },
    DeadLetters: { events: Array.from({ length: 50 }, (_, at) => ({ ...event, id: `event-${at}`, filename: names[at % names.length] })), has_more: true },
    FailedEvents: {
      groups: [
        group(180, 'post-finish', 'HTTP status 400: unknown customer'), group(12, 'post-create', 'error sending request: client error (Connect): tcp connect error: Connection refused (os error 111)', 'pending'),
        ...Array.from({ length: 9 }, (_, at) => group(1, 'post-finish', `HTTP status 500: {"detail":"database is locked","request":"${String(at).repeat(36)}"}`)),
      ],
    },
  };
}

/** Answers the requests of a tab. */
export async function answer(tab, responses = RESPONSES) {
  const give = (schema, change = (json) => json) => (route) => {
    route.fulfill({ json: change(responses[schema], new URL(route.request().url())) });
  };
  await tab.route('**/api/events*', (route) => route.abort());
  await tab.route('**/api/overview', give('Overview'));
  await tab.route('**/api/throughput*', give('Minutes'));
  await tab.route('**/api/uploads?*', give('Uploads', (json, { searchParams }) => (
    searchParams.get('state') ? { uploads: json.uploads.slice(0, active.length), next: null } : json)));
  await tab.route(/\/api\/uploads\/\d+$/, give('UploadDetail'));
  await tab.route('**/api/dead-letters*', give('DeadLetters'));
  await tab.route('**/api/failed-events', give('FailedEvents'));
  await tab.route('**/api/keys', give('Keys'));
  await tab.route('**/api/links', give('Links'));
}
