// The JSON API behind the page: docs/admin-api.yaml describes it.

/** The API refused. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.name = 'Refused';
    this.status = status;
  }
}

/** How long an answer may take, in milliseconds. */
const PATIENCE = 15_000;

async function ask(method, path, body) {
  const headers = { Accept: 'application/json' };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const answer = await fetch(`./api/${path}`, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(PATIENCE),
  });
  if (answer.status === 401) {
    // The session is over: the page is the form for the key then.
    location.reload();
    return new Promise(() => {});
  }
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, said.message ?? `The server answered ${answer.status}.`);
  return said;
}

const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== '' && value != null));

export const overview = () => ask('GET', 'overview');
export const throughput = (minutes) => ask('GET', `throughput?${query({ minutes })}`);
export const uploads = (asked) => ask('GET', `uploads?${query(asked)}`);
export const cancel = (id) => ask('DELETE', `uploads/${id}`);
export const dead = () => ask('GET', 'dead');
export const retry = (which) => ask('POST', 'dead/retry', which);
export const drop = (which) => ask('POST', 'dead/drop', which);
export const keys = () => ask('GET', 'keys');
