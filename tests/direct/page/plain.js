// The flow without a library: ask for a signature, PUT with progress, and say that the file is there.

const settings = JSON.parse(new URLSearchParams(location.search).get('settings'))
const { server, token, complete } = settings
const authorization = { Authorization: `Bearer ${token}` }
const form = document.forms[0]

/** For tests: how far the file was when the browser said so. */
window.progress = []

async function post(path, body) {
  const response = await fetch(`${server}${path}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...authorization },
    body: JSON.stringify(body),
  })
  const answer = await response.json()
  if (!response.ok) throw Object.assign(new Error(answer.message), { status: response.status })
  return answer
}

/** PUTs a file; only XMLHttpRequest tells how far it is. */
function put(url, type, file, headers = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest()
    request.open('PUT', url)
    request.setRequestHeader('Content-Type', type)
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value)
    request.upload.onprogress = ({ loaded, total }) => {
      window.progress.push(loaded)
      form.querySelector('progress').value = loaded / total
    }
    request.onload = () => (request.status < 300 ? resolve() : reject(new Error(`S3 said ${request.status}`)))
    request.onerror = () => reject(new Error('S3 could not be reached'))
    request.send(file)
  })
}

async function upload(file) {
  const signed = await post('/api/sign_s3', {
    file_name: file.name,
    file_type: file.type,
    ...(settings.plain ? {} : { send_headers: true }),
    ...(settings.size === undefined ? {} : { file_size: settings.size }),
  })
  await put(signed.signed_request, settings.type ?? signed.file_type, file, signed.headers)
  const done = complete ? await post('/api/complete_s3', { url: signed.url }) : null
  return { name: file.name, type: signed.file_type, size: file.size, uri: signed.url, done }
}

form.querySelector('input').addEventListener('change', async ({ target }) => {
  const result = await upload(target.files[0]).catch(({ message, status }) => ({ message, status }))
  form.querySelector('output').textContent = JSON.stringify(result)
})
