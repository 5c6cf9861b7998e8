import Uppy from '@uppy/core'
import Dashboard from '@uppy/dashboard'
import Tus from '@uppy/tus'
import '@uppy/core/css/style.min.css'
import '@uppy/dashboard/css/style.min.css'
import './style.css'
import { cancelJob, grantFor, listJobs, subscribe, tusEndpoint } from './jobs.js'

const at = (id) => document.getElementById(id)

/** Shows the state of a job, with a button to cancel it. */
function show(job) {
  const id = `job ${job.request_id}`
  const row = at(id) ?? Object.assign(document.createElement('li'), { id })
  row.dataset.state = job.state
  const name = Object.assign(document.createElement('span'), { className: 'name', textContent: job.filename })
  const share = job.size ? ` ${Math.floor((100 * job.offset) / job.size)} %` : ''
  const state = Object.assign(document.createElement('span'), { textContent: `${job.state}${share}` })
  row.replaceChildren(name, state)
  if (['received', 'started', 'progress'].includes(job.state)) {
    const button = Object.assign(document.createElement('button'), { textContent: 'Cancel' })
    button.addEventListener('click', () => cancelJob(job.request_id).then(show))
    row.append(button)
  }
  if (!row.isConnected) at('list').prepend(row)
}

function createUploader() {
  const uppy = new Uppy().use(Dashboard, {
    target: '#dashboard',
    inline: true,
    width: '100%',
    height: 380,
    proudlyDisplayPoweredByUppy: false,
  })
  uppy.use(Tus, {
    endpoint: tusEndpoint,
    // The last two identify the grant. Landfall removes the token before it stores the metadata.
    allowedMetaFields: ['name', 'type', 'upload_request_id', 'token'],
    retryDelays: [0, 500, 1000, 3000],
    removeFingerprintOnSuccess: true,
  })
  // Request grants right before the upload, since they expire after an hour.
  uppy.addPreProcessor(async (ids) => {
    for (const id of ids) {
      const file = uppy.getFile(id)
      try {
        const granted = await grantFor(file)
        uppy.setFileMeta(id, { upload_request_id: granted.request_id, token: granted.upload_token })
        uppy.setFileState(id, { tus: { endpoint: granted.location } })
      } catch (error) {
        uppy.emit('upload-error', file, error)
        throw error
      }
    }
  })
  uppy.on('file-removed', ({ meta, progress }) => {
    if (meta.upload_request_id && !progress.uploadComplete) cancelJob(meta.upload_request_id).then(show, () => {})
  })
  return uppy
}

async function begin(name) {
  at('login').hidden = true
  at('signed-in').hidden = false
  at('who').textContent = name
  const uppy = createUploader()
  subscribe((kind, job) => {
    show(job)
    // Cancelled elsewhere: the transfer was stopped and must not be retried.
    if (kind !== 'Cancelled') return
    const file = uppy.getFiles().find(({ meta }) => meta.upload_request_id === job.request_id)
    if (file) uppy.removeFile(file.id)
  })
  for (const job of await listJobs()) show(job)
}

const me = await (await fetch('me')).json()
if (me.name) {
  await begin(me.name)
} else {
  at('login').addEventListener('submit', async (event) => {
    event.preventDefault()
    const body = new URLSearchParams(new FormData(at('login')))
    const { name } = await (await fetch('login', { method: 'POST', body })).json()
    await begin(name)
  })
}
