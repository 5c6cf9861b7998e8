'use strict'

// Asks the queue for a token, then uploads with it.

const log = document.getElementById('log')
const cancel = document.getElementById('cancel')

function say(text) {
  log.appendChild(document.createElement('li')).textContent = text
}

async function ajax(method, url, data) {
  const headers = { Accept: 'application/json, text/plain, */*', 'X-Requested-With': 'XMLHttpRequest' }
  if (data) headers['Content-Type'] = 'application/json;charset=utf-8'
  const response = await fetch(url, { method, headers, body: data && JSON.stringify(data) })
  if (!response.ok) throw new Error(response.status + ' ' + (await response.text()))
  return response.json()
}

async function start(file) {
  const id = 'up' + Date.now().toString(36) + Math.random().toString(36).slice(2, 8)
  const input = { id, filename: file.name, filesize: file.size, album: document.getElementById('album').value }
  // Browsers do not know every type.
  if (file.type) input.filetype = file.type
  else if (file.size % 2) input.filetype = null
  const job = await ajax('POST', '/uploadjobs/', input)
  say('granted ' + id)
  const upload = new tus.Upload(file, {
    endpoint: job.location,
    retryDelays: [0, 1000, 3000, 5000],
    chunkSize: 500 * 1000,
    storeFingerprintForResuming: false,
    metadata: { filename: file.name, upload_request_id: id, token: job.upload_token },
    onError: (error) => say('failed ' + error.message),
    onSuccess: () => say('completed'),
  })
  cancel.disabled = false
  cancel.onclick = async () => {
    cancel.disabled = true
    await upload.abort(true)
    await ajax('DELETE', '/uploadjobs/' + id)
    say('cancelled')
  }
  upload.start()
  window.last = { job, file }
}

document.getElementById('file').addEventListener('change', (event) => {
  start(event.target.files[0]).catch((error) => say('refused ' + error.message))
})
