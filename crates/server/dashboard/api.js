// Client of the JSON API, which docs/admin-api.yaml describes.

/** An error response of the API. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
  }
}

/** Maximum duration of a request, in milliseconds. */
const TIMEOUT = 15_000;

async function request(method, path, body) {
  const headers = { Accept: 'application/json' };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const response = await fetch(`./api/${path}`, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(TIMEOUT),
  });
  if (response.status === 401) {
    // The session has ended: reloading shows the login form.
    location.reload();
    return new Promise(() => {});
  }
  const json = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, json.message ?? `The server responded with ${response.status}.`);
  return json;
}

const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== '' && value != null));

export const overview = () => request('GET', 'overview');
export const throughput = (filter) => request('GET', `throughput?${query(filter)}`);
export const uploads = (filter) => request('GET', `uploads?${query(filter)}`);
export const upload = (id) => request('GET', `uploads/${id}`);
export const deleteUpload = (id) => request('POST', `uploads/${id}/delete`);
export const cancelUpload = (id) => request('DELETE', `uploads/${id}`);
export const failedEvents = () => request('GET', 'failed-events');
export const deadLetters = (group) => request('GET', `dead-letters?${new URLSearchParams(group)}`);
export const retryDeadLetters = (selection) => request('POST', 'dead-letters/retry', selection);
export const deleteDeadLetters = (selection) => request('POST', 'dead-letters/delete', selection);
export const keys = () => request('GET', 'keys');
export const links = () => request('GET', 'links');
export const revokeLink = (id) => request('DELETE', `links/${id}`);
