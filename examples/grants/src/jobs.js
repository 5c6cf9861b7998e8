// Client of the upload queue.

/** The URL of Landfall, set by the application; empty: the same host. */
const { landfall } = await (await fetch('settings.json')).json()

export const tusEndpoint = `${landfall}/files/`
const JOBS = `${landfall}/uploadjobs`

/** Sends a request with the session cookie. Throws errors with Landfall's message. */
async function request(path, options = {}) {
  const response = await fetch(`${JOBS}${path}`, { credentials: 'include', ...options })
  const body = await response.json()
  if (response.ok) return body
  throw Object.assign(new Error(body.message), { status: response.status, errors: body.errors })
}

export const listJobs = () => request('')

export const cancelJob = (id) => request(`/${encodeURIComponent(id)}`, { method: 'DELETE' })

function grant(file, id) {
  return request('', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ id, filename: file.name, filesize: file.size, filetype: file.type }),
  })
}

/**
 * Requests a grant for `file`. A file that is selected again after a reload uses the same id, so that it resumes the same
 * upload; after the end of that upload it gets a new id.
 */
export async function grantFor(file) {
  const key = `grant ${file.id}`
  const known = localStorage.getItem(key)
  if (known) {
    try {
      const granted = await grant(file, known)
      if (granted.state !== 'completed') return granted
    } catch (error) {
      if (error.status !== 409 && error.status !== 410) throw error
    }
  }
  const id = crypto.randomUUID()
  localStorage.setItem(key, id)
  return grant(file, id)
}

/** Calls `onEvent(kind, job)` for each event. The browser reconnects and resumes the event stream. */
export function subscribe(onEvent) {
  const source = new EventSource(`${JOBS}/events`, { withCredentials: true })
  for (const kind of ['Started', 'Progress', 'Completed', 'Cancelled', 'Failed', 'Expired']) {
    source.addEventListener(`Upload${kind}`, ({ data }) => onEvent(kind, JSON.parse(data).upload))
  }
  return source
}
