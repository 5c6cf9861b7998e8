// The upload queue of Landfall, as this page uses it.

/** The application says where Landfall is; empty: behind the same host. */
const { landfall } = await (await fetch('settings.json')).json()

export const tusEndpoint = `${landfall}/files/`
const JOBS = `${landfall}/uploadjobs`

/** A request with the session's cookie; what goes wrong is thrown with Landfall's words. */
async function ask(path, options = {}) {
  const response = await fetch(`${JOBS}${path}`, { credentials: 'include', ...options })
  const body = await response.json()
  if (response.ok) return body
  throw Object.assign(new Error(body.message), { status: response.status, errors: body.errors })
}

export const listJobs = () => ask('')

export const cancelJob = (id) => ask(`/${encodeURIComponent(id)}`, { method: 'DELETE' })

function grant(file, id) {
  return ask('', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ id, filename: file.name, filesize: file.size, filetype: file.type }),
  })
}

/**
 * Asks for leave to upload `file`. A file that is chosen again after a reload is asked for under the same
 * id, so that it stays one upload; one that has ended gets a new id.
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

/** Calls `told(kind, job)` for each event of the queue, and goes on where it was after a lost connection. */
export function follow(told) {
  const source = new EventSource(`${JOBS}/events`, { withCredentials: true })
  for (const kind of ['Started', 'Progress', 'Completed', 'Cancelled', 'Failed', 'Expired']) {
    source.addEventListener(`Upload${kind}`, ({ data }) => told(kind, JSON.parse(data).upload))
  }
  return source
}
